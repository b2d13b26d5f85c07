"""Heat maps that show why a Transformer decided what it decided, for the class you name."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradtoken.attribution import attribute as attribute
    from gradtoken.comparing import compare as compare
    from gradtoken.errors import GradTokenError as GradTokenError
    from gradtoken.explaining import explain as explain
    from gradtoken.methods import METHODS as METHODS
    from gradtoken.models.load import load as load
    from gradtoken.models.model import Model as Model
    from gradtoken.models.preprocess import Preprocess as Preprocess
    from gradtoken.probe import Probe as Probe
    from gradtoken.result import Explanation as Explanation
    from gradtoken.result import Explanations as Explanations
    from gradtoken.scores import contrast as contrast
    from gradtoken.scores import similarity_to as similarity_to

__version__ = "0.1.0"
HOMES = {
    "Explanation": "result",
    "Explanations": "result",
    "GradTokenError": "errors",
    "METHODS": "methods",
    "Model": "models.model",
    "Preprocess": "models.preprocess",
    "Probe": "probe",
    "attribute": "attribution",
    "compare": "comparing",
    "contrast": "scores",
    "explain": "explaining",
    "load": "models.load",
    "similarity_to": "scores",
}
__all__ = ["__version__", *HOMES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package is instant."""
    if name not in HOMES:
        raise AttributeError(f"module 'gradtoken' has no attribute {name!r}; it has {', '.join(__all__)}")
    import importlib

    value = getattr(importlib.import_module(f"gradtoken.{HOMES[name]}"), name)
    globals()[name] = value
    return value
