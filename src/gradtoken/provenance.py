"""Where a map comes from: the model, how its input was prepared, and the versions of what took part."""

import importlib.metadata
import sys
from typing import Any

from gradtoken.models.model import Model

PACKAGES = {"gradtoken": "gradtoken", "torch": "torch", "timm": "timm", "transformers": "transformers"}
PACKAGES |= {"torchvision": "torchvision", "open_clip": "open_clip_torch", "soundfile": "soundfile", "soxr": "soxr"}


def provenance(model: Model) -> dict[str, Any]:
    """What an explanation says of the model."""
    return {
        "model": model.name,
        "versions": versions(),
        "preprocessing": model.preprocess.describe(),
        "note": model.note,
    }


def versions() -> dict[str, str]:
    """Versions of what took part."""
    return {name: version_of(name, package) for name, package in PACKAGES.items() if name in sys.modules}


def version_of(name: str, package: str) -> str:
    """As it was installed; else, where it is run from its sources, as the module itself says."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules[name], "__version__", "unknown"))
