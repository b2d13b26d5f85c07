"""Files of published models: from the local cache, else downloaded, else refused within seconds.

The libraries themselves retry for most of a minute where there is no network.
"""

import re
import socket
import threading
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from gradtoken.errors import BadModel
from gradtoken.models.model import need
from gradtoken.models.weights import brief
from gradtoken.outside import decoded, text_of

NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")  # ORG/NAME
SECONDS = 3.0  # to wait for a connection
SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json")
VOCABULARY = ("tokenizer.json", "vocab.*", "*.model")
TOKENIZER = (*VOCABULARY, "tokenizer_config.json", "special_tokens_map.json", "merges.txt", "added_tokens.json")
CONTINUES = ("ForCausalLM", "LMHeadModel")  # what architectures of language models end in
ANSWERS = ("LlavaForConditionalGeneration", "VipLlavaForConditionalGeneration")  # a picture is one grid of tokens
JOINT = ("ViltForQuestionAnswering",)  # one tower for pictures and texts
SAFE = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def reachable(address: str) -> bool:
    """Whether a connection to the host, or to the proxy that leads to it, opens within seconds."""
    target = urlsplit(address)
    proxy = urllib.request.getproxies().get(target.scheme)
    if proxy and not urllib.request.proxy_bypass(target.hostname or ""):
        target = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = target.port or (80 if target.scheme == "http" else 443)
    opened = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((target.hostname, port), timeout=SECONDS).close()
            opened.set()
        except OSError:
            pass

    thread = threading.Thread(target=connect, daemon=True)  # looking up the name has no timeout of its own
    thread.start()
    thread.join(SECONDS + 1)
    return opened.is_set()


def require(address: str, name: str) -> None:
    """Refuse at once where a download cannot succeed."""
    host = urlsplit(address).hostname
    if not reachable(address):
        raise BadModel(
            f"{name} is not in the local cache and {host} cannot be reached; connect to the network once, or copy the "
            "weights here and name the folder, or give weights=FILE with the architecture (timm:NAME)"
        )


def fetch_url(address: str, name: str) -> Path:
    """A weights file in torch's cache, downloaded if it is not there."""
    path = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(address).path).name)
    if path.is_file():
        return path
    require(address, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = torch.hub.HASH_REGEX.search(path.name)
    try:
        torch.hub.download_url_to_file(address, str(path), digest.group(1) if digest else None, progress=False)
    except (OSError, RuntimeError) as error:
        raise BadModel(f"{name}: {address} could not be downloaded: {error}; try again") from error
    return path


def fetch_repo(repo: str) -> Path:
    """The folder with a hub model's configuration and weights."""
    cached = cached_folder(repo)
    if cached is not None:
        return cached
    hub = need("huggingface_hub", "transformers")

    def download(*files: str) -> Path:
        return Path(online(repo, lambda: hub.snapshot_download(repo, allow_patterns=[*SETTINGS, *TOKENIZER, *files])))

    folder = download("model*.safetensors", SAFE[1])
    return folder if has_weights(folder) else download("pytorch_model*.bin", PICKLED[1])


def fetch_file(repo: str, file: str) -> Path:
    """A file of a hub repository, or the same weights as safetensors: pytorch_model.bin is model.safetensors there."""
    hub = need("huggingface_hub", "transformers")
    stem = file.rpartition(".")[0]
    names = [f"{stem.replace('pytorch_', '')}.safetensors", f"{stem}.safetensors", file]
    for name in names:
        cached = hub.try_to_load_from_cache(repo, name)
        if isinstance(cached, str):
            return Path(cached)
    present = online(repo, lambda: hub.list_repo_files(repo))
    for name in names:
        if name in present:
            return Path(online(repo, lambda name=name: hub.hf_hub_download(repo, name)))  # type: ignore[misc]
    raise BadModel(f"the hub's {repo} holds none of {', '.join(names)}; download its weights and give weights=FILE")


def cached_folder(repo: str) -> Path | None:
    """A hub model's folder in the local cache, if it is complete."""
    hub = need("huggingface_hub", "transformers")
    config = hub.try_to_load_from_cache(repo, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if is_described(folder) and has_weights(folder) else None


def is_described(folder: Path) -> bool:
    """Whether a folder holds what prepares a model's pictures, texts or sounds."""
    config = read_json(folder / "config.json")
    texts = any(head.endswith(("ForSequenceClassification", *CONTINUES)) for head in config.get("architectures") or ())
    texts = texts and not (folder / SETTINGS[1]).exists()  # classifiers of sounds are called so too
    towers = "text_config" in config
    needed = [names for names, is_needed in ((VOCABULARY, texts or towers), (SETTINGS[1:], not texts)) if is_needed]
    return is_timm(config) or all(any(any(folder.glob(name)) for name in names) for names in needed)


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a weights file, or all parts of one."""
    if (folder / SAFE[0]).exists() or (folder / PICKLED[0]).exists():
        return True
    for index in (folder / SAFE[1], folder / PICKLED[1]):
        if index.exists():
            parts = read_json(index).get("weight_map", {}).values()
            return bool(parts) and all((folder / part).exists() for part in set(parts))
    return False


def online(repo: str, download: Callable[[], Any]) -> Any:
    """What `download` returns, with the hub's refusals put plainly."""
    constants = need("huggingface_hub.constants", "transformers")
    errors = need("huggingface_hub.errors", "transformers")
    if constants.HF_HUB_OFFLINE:
        raise BadModel(f"{repo} is not in the local cache, and HF_HUB_OFFLINE is set; unset it or name a local folder")
    require(constants.ENDPOINT, repo)
    try:
        return download()
    except errors.GatedRepoError as error:
        raise BadModel(
            f"{repo} asks for its licence to be accepted: do so on the hub, then run: hf auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise BadModel(f"the hub has no model {repo}, or it is private (then run: hf auth login)") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise BadModel(f"{repo} could not be downloaded: {brief(error)}; try again, or name a local folder") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        content = decoded(text_of(path))
    except (OSError, ValueError) as error:
        raise BadModel(f"{str(path)!r} is not readable JSON: {error}; get the file again") from error
    if not isinstance(content, dict):
        raise BadModel(f"{str(path)!r}: expected a JSON object, got {type(content).__name__}")
    return content


def is_timm(config: Mapping[str, Any]) -> bool:
    """Whether a config.json was written by timm."""
    return "architecture" in config
