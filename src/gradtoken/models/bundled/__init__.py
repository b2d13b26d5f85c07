"""The small model that ships with the package, so that everything can be tried without a download."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from gradtoken.errors import BadModel
from gradtoken.models.hub import read_json
from gradtoken.models.labels import Labels
from gradtoken.models.model import Model
from gradtoken.models.preprocess import Preprocess
from gradtoken.models.vit import VisionTransformer
from gradtoken.models.weights import load_weights

FOLDER = Path(__file__).parent


def load_bundled() -> Model:
    """The demonstration model; its weights are stored in half precision and computed with in float32."""
    path, facts = FOLDER / "model.safetensors", FOLDER / "facts.json"
    if not (path.is_file() and facts.is_file()):
        raise BadModel(
            "the bundled model is missing from this installation of gradtoken; install it again, "
            "or name another model, for example timm:deit_tiny_patch16_224"
        )
    known = read_json(facts)
    net = VisionTransformer(classes=len(known["classes"]), **known["architecture"])
    try:
        load_weights(net, load_file(path), path)
    except (SafetensorError, OSError) as error:
        raise BadModel(f"the bundled weights are damaged: {error}; install gradtoken again") from error
    return Model(
        net=net,
        name="bundled",
        preprocess=Preprocess((224, 224)),
        labels=Labels.of(known["classes"]),
        source="the model that ships with gradtoken",
        note=f"the small demonstration model ({len(known['classes'])} classes); name a real one with --model, "
        "for example --model google/vit-base-patch16-224",
    )
