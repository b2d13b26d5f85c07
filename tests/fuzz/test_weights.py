"""Weights and model folders that are damaged, lie about themselves, or hold code."""

import io
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import gradtoken
from gradtoken.errors import BadModel
from gradtoken.models.load import load
from gradtoken.models.weights import read_weights
from tests import zoo
from tests.asking import ask, examples
from tests.fuzz.damage import DEEP, altered, damaged, written
from tests.fuzz.outcomes import expected_right, tried

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries warn of what they read
STATE = {"head.weight": torch.ones(2, 3), "head.bias": torch.arange(2.0)}


def state(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    found = tried("weights", lambda: read_weights(path))
    if found is not None:
        with expected_right("weights"):
            assert found
            assert all(isinstance(value, torch.Tensor) for value in found.values())


@examples(30, 1000)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged(suffix, count, tmp_path):
    path = tmp_path / f"weights{suffix}"
    save_file(STATE, path) if suffix == ".safetensors" else torch.save(STATE, path)

    def opened(content: bytes) -> None:
        state(path, content)

    ask(count, opened, damaged(path.read_bytes()))


class Code:
    """What a pickle would run when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def carriers(mark: Path) -> dict[str, bytes]:
    """Files in which code hides."""
    torn, legacy = io.BytesIO(), io.BytesIO()
    torch.save({"head": Code(mark)}, torn)
    torch.save({"head": Code(mark)}, legacy, _use_new_zipfile_serialization=False)
    return {"plain": pickle.dumps(Code(mark)), "zip": torn.getvalue(), "legacy": legacy.getvalue()}


@pytest.mark.parametrize("kind", ["plain", "zip", "legacy"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
def test_no_code_is_run(kind, suffix, tmp_path):
    mark = tmp_path / "mark"
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(carriers(mark)[kind])
    assert tried("weights", lambda: read_weights(path)) is None
    assert tried("weights", lambda: load("timm:vit_tiny_patch16_224", weights=path)) is None
    assert not mark.exists()
    pickle.loads(carriers(mark)["plain"])
    assert mark.exists(), "the code would have run"


def folder_of(kind: str, root: Path) -> Path:
    """A tiny model, saved as its library saves it."""
    if kind == "timm":
        timm = pytest.importorskip("timm")
        sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 5}
        net = timm.create_model("vit_tiny_patch16_224", **sizes)
        timm.models.save_for_hf(net, str(root), model_args=sizes, safe_serialization=True)
        return root
    transformers = pytest.importorskip("transformers")
    zoo.transformers_vit().save_pretrained(root)
    size = {"height": 16, "width": 16}
    transformers.ViTImageProcessor(size=size).save_pretrained(root)
    return root


def opens(root: Path) -> nn.Module | None:
    """A model that was let in explains a picture, or says why not."""
    found = tried("model folders", lambda: load(root))
    if found is not None:
        picture = torch.zeros(20, 20, 3, dtype=torch.uint8).numpy()
        tried("model folders", lambda: gradtoken.explain(picture, found, 0, allow_blank=True))
    return found


@examples(8, 150)
@pytest.mark.parametrize("kind", ["timm", "transformers"])
def test_another_configuration(kind, count, tmp_path):
    root = folder_of(kind, tmp_path / "whole")
    files = [path for path in sorted(root.glob("*.json"))]
    before = {path: path.read_bytes() for path in files}

    def opened(content: Any) -> None:
        path, document = content
        path.write_bytes(written(document))
        try:
            opens(root)
        finally:
            path.write_bytes(before[path])

    drawn = [altered(json.loads(before[path])).map(lambda d, p=path: (p, d)) for path in files]
    ask(count, opened, st.one_of(drawn))


@pytest.mark.parametrize(("kind", "key"), [("timm", "depth"), ("transformers", "num_hidden_layers")])
def test_layers_without_end(kind, key, tmp_path):
    root = folder_of(kind, tmp_path / "whole")
    config = json.loads((root / "config.json").read_bytes())
    (config.get("model_args") or config)[key] = 10**9
    (root / "config.json").write_bytes(written(config))
    with pytest.raises(BadModel, match=f"says {key}=1000000000; expected at most 1000"):
        load(root)


def test_pictures_of_another_size_than_the_models(tmp_path):
    root = folder_of("transformers", tmp_path)
    settings = json.loads((root / "preprocessor_config.json").read_bytes())
    (root / "preprocessor_config.json").write_bytes(written(settings | {"size": {"height": 24, "width": 24}}))
    with pytest.raises(BadModel, match=r"fails on an input that was prepared .* give preprocess= that fits"):
        gradtoken.explain(torch.zeros(20, 20, 3, dtype=torch.uint8).numpy(), load(root), 0)


@pytest.mark.parametrize("kind", ["timm", "transformers"])
def test_folders_with_other_files(kind, tmp_path):
    root = folder_of(kind, tmp_path / "whole")
    for name in ("config.json", "model.safetensors"):
        for content in (b"", DEEP, b"null", b"[]", b"\xff" * 100):
            other = shutil.copytree(root, tmp_path / "other", dirs_exist_ok=True)
            (other / name).write_bytes(content)
            assert opens(other) is None
    mark = tmp_path / "mark"
    (other / "config.json").write_bytes((root / "config.json").read_bytes())
    (other / "model.safetensors").unlink()
    (other / "pytorch_model.bin").write_bytes(carriers(mark)["zip"])
    assert opens(other) is None
    assert not mark.exists()
