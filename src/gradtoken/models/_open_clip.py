"""open_clip: models of pictures and captions, a tower for each."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from gradtoken.errors import BadModel, UnknownName
from gradtoken.models._torchvision import ensure_torchvision
from gradtoken.models.captions import Captions
from gradtoken.models.clip import Towers
from gradtoken.models.hub import fetch_file, fetch_url, online
from gradtoken.models.model import Model, need
from gradtoken.models.preprocess import Preprocess
from gradtoken.models.recipes import from_open_clip
from gradtoken.models.weights import brief, read_weights


def load_open_clip(name: str, weights: Path | None) -> Model:
    """`NAME/TAG` with published weights, or `NAME` with those of a file."""
    ensure_torchvision()
    open_clip: Any = need("open_clip", "open-clip")
    name, _, tag = name.partition("/")
    if name not in open_clip.list_models():
        raise UnknownName.among("open_clip model", name, open_clip.list_models())
    shown = f"open_clip:{name}" + (f"/{tag}" if tag else "")
    published = open_clip.get_pretrained_cfg(name, tag)
    if weights is not None:
        read_weights(weights)  # refuses what is damaged or could run code
    elif not published:
        raise without_weights(name, tag, open_clip.list_pretrained_tags_by_model(name))
    path = weights or download(published, shown)
    net = build(open_clip, name, path, published, shown)
    source = f"open_clip {name} with the weights {tag or path.name}"
    return of_towers(net, shown, tokenizer_of(open_clip, name, shown), source)


def of_towers(net: Any, name: str, tokenizer: Any, source: str) -> Model:
    """A network with its tokenizer."""
    captions = Captions(tokenizer, tokenizer.context_length)
    return Model(Towers(net), name, from_open_clip(net.visual.preprocess_cfg), None, source, captions=captions)


def tokenizer_of(open_clip: Any, name: str, shown: str) -> Any:
    """As the architecture asks: open_clip's own, or one of the hub's."""
    config = open_clip.get_model_config(name)["text_cfg"]
    repo = config.get("hf_tokenizer_name")
    if not repo:
        return open_clip.get_tokenizer(name)
    try:
        return open_clip.get_tokenizer(name, local_files_only=True)
    except (OSError, ValueError):
        return online(f"{repo}, the tokenizer of {shown},", lambda: open_clip.get_tokenizer(name))


def of_module(net: Any, preprocess: Preprocess | None) -> Model:
    """A network already built; of its tokenizer only the size is known, which is told by open_clip's own."""
    open_clip: Any = need("open_clip", "open-clip")
    tokenizer, kind = open_clip.tokenizer.SimpleTokenizer(context_length=net.context_length), type(net).__name__
    if getattr(net, "vocab_size", None) != tokenizer.vocab_size:
        raise BadModel(f"{kind} has a tokenizer of its own; give its name, open_clip:NAME/TAG, or net.visual alone")
    found = of_towers(net, kind, tokenizer, f"the {kind} that was passed in")
    return replace(found, preprocess=preprocess or found.preprocess)


def without_weights(name: str, tag: str, tags: list[str]) -> UnknownName | BadModel:
    """What to say where no weights are named, or none of that name exist."""
    if tag and tags:
        return UnknownName.among(f"weights of open_clip:{name}", tag, tags)
    offered = ", ".join(f"open_clip:{name}/{each}" for each in tags[:8]) or "none: give weights=FILE"
    return BadModel(f"open_clip:{name}: name the weights too; published are {offered}")


def build(open_clip: Any, name: str, path: Path, published: dict[str, Any], shown: str) -> Any:
    """The network with the weights at `path`, prepared as these weights were trained."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    try:
        return open_clip.create_model(
            name,
            pretrained=str(path),
            force_quick_gelu=bool(published.get("quick_gelu")),
            force_preprocess_cfg={key: published[key] for key in keys if key in published},
            pretrained_text=False,
        )
    except (RuntimeError, OSError, ValueError, LookupError) as error:
        raise BadModel(f"{shown}: the weights {str(path)!r} cannot be loaded: {brief(error)}") from error


def download(published: dict[str, Any], shown: str) -> Path:
    """The file with published weights."""
    if not published.get("hf_hub"):
        return fetch_url(published["url"], shown)
    repo, _, file = published["hf_hub"].rpartition("/")
    return fetch_file(repo, file or "open_clip_pytorch_model.bin")
