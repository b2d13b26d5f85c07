"""timm: published models, saved folders, weights files and networks already built."""

from pathlib import Path
from typing import Any

from torch import nn

from gradtoken.errors import BadModel, UnknownName
from gradtoken.models._torchvision import ensure_torchvision
from gradtoken.models.hub import fetch_file, fetch_url
from gradtoken.models.labels import SYNSET, Labels
from gradtoken.models.model import HEADLESS, Model, need
from gradtoken.models.preprocess import Preprocess
from gradtoken.models.recipes import from_timm
from gradtoken.models.weights import FAULTS, brief, build_for, load_weights, read_weights


def library() -> Any:
    ensure_torchvision()
    return need("timm", "timm")


def load_timm(name: str, weights: Path | None, headless: bool) -> Model:
    """`NAME` or `NAME.TAG`, with timm's weights or those of a file."""
    timm = library()
    if not timm.is_model(name):
        raise UnknownName.among("timm model", name, timm.list_models())
    try:
        published = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:  # the tag
        tags = [full.partition(".")[2] for full in timm.list_pretrained(name.split(".")[0] + ".*")]
        raise UnknownName.among(f"weights of timm:{name.split('.')[0]}", name.partition(".")[2], tags) from error
    if weights is not None:
        state = read_weights(weights)
        classes = published.num_classes if published else 1000
        net, _ = build_for(state, classes, lambda count: timm.create_model(name, num_classes=count))
        load_weights(net, state, weights)
        return finish(net, f"timm:{name}", f"timm {name} with the weights {weights.name}", headless)
    if not (published and published.has_weights):
        raise BadModel(
            f"timm publishes no weights for {name}; give weights=FILE, or a name with weights: timm:deit_..."
        )
    net = create(name, download(name, published), f"timm:{name}")
    tag = f"{published.architecture or name.split('.')[0]}.{published.tag}" if published.tag else name
    return finish(net, f"timm:{name}", f"timm {tag}", headless)


def load_timm_folder(folder: Path, name: str, headless: bool) -> Model:
    """A folder with timm's config.json and a weights file."""
    library()
    files = [folder / file for file in ("model.safetensors", "pytorch_model.bin", "model.pth", "pytorch_model.pth")]
    found = next((file for file in files if file.exists()), None)
    if found is None:
        raise BadModel(f"{name}: expected model.safetensors beside config.json in {str(folder)!r}")
    net = create(f"local-dir:{folder}", found, name)
    return finish(net, name, f"timm {net.pretrained_cfg.get('architecture', '')} from {name}", headless)


def download(name: str, published: Any) -> Path:
    """The file with a model's published weights."""
    if not published.hf_hub_id:
        address = published.url if isinstance(published.url, str) else published.url[0]
        return fetch_url(address, f"timm:{name}")
    return fetch_file(published.hf_hub_id, published.hf_hub_filename or "pytorch_model.bin")


def create(name: str, path: Path, shown: str) -> Any:
    """The network with the weights at `path`, converted as timm does for its own downloads."""
    # timm's older versions unpickle whole objects: it is only handed what was read safely
    origin = {"file": str(path)} if path.suffix == ".safetensors" else {"state_dict": read_weights(path)}
    try:
        overlay = {"source": "timm", "custom_load": False, **origin}
        net = library().create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except FAULTS as error:
        raise BadModel(f"{shown}: the weights {str(path)!r} cannot be loaded: {brief(error)}") from error
    net.pretrained_cfg.pop("state_dict", None)
    if net.num_classes != net.pretrained_cfg["num_classes"]:
        raise BadModel(
            f"{shown}: the weights have {net.pretrained_cfg['num_classes']} classes and the configuration asks for "
            f"{net.num_classes}, so the head would be random; correct num_classes in config.json"
        )
    return net


def finish(net: Any, name: str, source: str, headless: bool) -> Model:
    """The model with its own preprocessing and labels."""
    if not net.num_classes and not headless:
        raise BadModel(
            f"{name} has no classification head; choose a fine-tuned model, or pass headless=True with a target that "
            "is a callable on its features"
        )
    note = "" if net.num_classes else f"{name} {HEADLESS}"
    return Model(net, name, preprocess_of(net), labels_of(net), source, note)


def preprocess_of(net: Any) -> Preprocess:
    """As the pretrained configuration says, at the size the network was built for."""
    config = library().data.resolve_model_data_config(net)
    built_for = getattr(getattr(net, "patch_embed", None), "img_size", None)
    if built_for:
        config["input_size"] = (config["input_size"][0], *built_for)
    return from_timm(config)


def labels_of(net: nn.Module) -> Labels | None:
    """Names from the configuration; else those of the ImageNet set with as many classes, which timm goes by too."""
    timm: Any = library()
    config: dict[str, Any] = getattr(net, "pretrained_cfg", {})
    count: int = getattr(net, "num_classes", 0)
    names, described = config.get("label_names"), config.get("label_descriptions") or {}
    if names is None:
        subset = timm.data.infer_imagenet_subset(net) if count else None
        if subset is None:
            return None
        info = timm.data.ImageNetInfo(subset)
        names, described = info.label_names(), info.label_descriptions(as_dict=True)
    if not names or len(names) != count:
        return None
    texts = tuple(str(described.get(name, name)) for name in names)
    return Labels(texts, tuple(names) if all(SYNSET.fullmatch(name) for name in names) else ())
