import json
import math
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from gradtoken.errors import BadModel, MissingExtra, UnknownName
from gradtoken.models import bundled
from gradtoken.models.labels import Labels
from gradtoken.models.load import known_models, load
from gradtoken.models.preprocess import Preprocess
from gradtoken.models.vit import VisionTransformer
from gradtoken.models.weights import read_weights

DATA = Path(__file__).parents[2].parent / "shared/data"
SMALL = {"width": 8, "depth": 2, "heads": 2, "hidden": 16}


def output(model) -> torch.Tensor:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    with torch.no_grad():
        out = model.net(model.preprocess(picture).pixels[None].to(next(model.net.parameters())))
    return getattr(out, "logits", out)


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """Empty caches, and hosts that refuse at once."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


# The bundled model


@pytest.fixture
def bundle(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    net = VisionTransformer(classes=3, **SMALL)
    nn.init.normal_(net.pos_embed)
    save_file({name: tensor.half() for name, tensor in net.state_dict().items()}, tmp_path / "model.safetensors")
    facts = {"classes": ["cat", "dog", "bird"], "architecture": SMALL, "scores": {"top1": 0.9}}
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    return tmp_path


def test_bundled(bundle):
    model = load()
    assert model.name == "bundled"
    assert not model.net.training
    assert {p.dtype for p in model.net.parameters()} == {torch.float32}
    assert list(model.labels) == ["cat", "dog", "bird"]
    assert model.preprocess == Preprocess((224, 224), resize="squash", interpolation="bicubic")
    assert "3 classes" in model.note
    assert "--model google/vit-base-patch16-224" in model.note
    assert output(model).shape == (1, 3)


def test_bundled_that_is_missing_or_damaged(bundle):
    (bundle / "model.safetensors").write_bytes(b"\x08")
    with pytest.raises(BadModel, match=r"the bundled weights are damaged: .*install gradtoken again"):
        load()
    (bundle / "model.safetensors").unlink()
    with pytest.raises(BadModel, match=r"the bundled model is missing from this installation"):
        load()


def test_options(bundle):
    model = load(labels=["a", "b", "c"], dtype="bfloat16", device="cpu", preprocess=Preprocess((224, 224), scale=1.0))
    assert list(model.labels) == ["a", "b", "c"]
    assert model.preprocess.scale == 1.0
    assert {p.dtype for p in model.net.parameters()} == {torch.bfloat16}
    for options, message in [
        ({"dtype": "int8"}, "dtype='int8'; expected float32"),
        ({"dtype": "nonsense"}, "dtype='nonsense'; expected float32"),
        ({"device": "nonsense"}, "cannot be moved to device 'nonsense'.*try device='cpu'"),
    ]:
        with pytest.raises(BadModel, match=message):
            load(**options)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite(bundle, value):
    state = read_weights(bundle / "model.safetensors")
    state["blocks.1.mlp.fc1.bias"][2] = value
    save_file(state, bundle / "model.safetensors")
    with pytest.raises(BadModel, match=r"bundled: the weight blocks\.1\.mlp\.fc1\.bias holds 1 values that are nan"):
        load()


# timm


@pytest.fixture(scope="module")
def tiny():
    """A published timm architecture, with random weights."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", num_classes=7).eval()


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "bin"])
def test_timm_with_a_weights_file(tiny, tmp_path, suffix):
    path = tmp_path / f"w.{suffix}"
    state = tiny.state_dict()
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}, path)
    model = load("timm:vit_tiny_patch16_224", weights=path, labels=list("abcdefg"))
    assert model.source == f"timm vit_tiny_patch16_224 with the weights w.{suffix}"
    assert model.preprocess.mean == (0.5, 0.5, 0.5)
    with torch.no_grad():
        pixels = torch.randn(1, 3, 224, 224)
        assert torch.equal(model.net(pixels), tiny(pixels))
    with pytest.raises(BadModel, match=r"2 class names were given for a model with 7 classes"):
        load("timm:vit_tiny_patch16_224", weights=path, labels=["a", "b"])


def test_weights_that_do_not_fit(tiny, tmp_path):
    state = dict(tiny.state_dict())
    state["extra"] = state.pop("norm.weight")
    state["pos_embed"] = state["pos_embed"][:, :50].contiguous()
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(
        BadModel,
        match=r"w.safetensors' do not fit VisionTransformer: 1 missing: norm.weight; 1 unexpected: extra; "
        r"1 of another shape: pos_embed \(1, 50, 192\), expected \(1, 197, 192\)",
    ):
        load("timm:vit_tiny_patch16_224", weights=tmp_path / "w.safetensors")
    save_file({f"x{i}": torch.zeros(1) for i in range(24)}, tmp_path / "w.safetensors")
    with pytest.raises(BadModel, match=r"do not fit .*: 152 missing: cls_token, .*, \.\.\.; 24 unexpected"):
        load("timm:deit_tiny_patch16_224", weights=tmp_path / "w.safetensors")


def timm_folder(folder: Path, **change) -> nn.Module:
    timm = pytest.importorskip("timm")
    args = {"img_size": 32, "depth": 1, "embed_dim": 16, "num_heads": 2}
    net = timm.create_model("vit_tiny_patch16_224", num_classes=4, **args).eval()
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 4,
        "pretrained_cfg": {"input_size": [3, 32, 32], "num_classes": 4, "crop_pct": 1.0, "mean": [0.1] * 3},
        "model_args": args,
        "label_names": ["n00000001", "n00000002", "n00000003", "n00000004"],
        "label_descriptions": {"n00000001": "cat, felis", "n00000002": "dog"},
        **change,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return net


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_timm_folder(tmp_path, file):
    net = timm_folder(tmp_path)
    torch.save(net.state_dict(), tmp_path / file) if file[-1] == "n" else save_file(net.state_dict(), tmp_path / file)
    model = load(tmp_path)
    assert model.preprocess.size == (32, 32)
    assert model.preprocess.mean == (0.1, 0.1, 0.1)
    assert model.labels.find("felis") == model.labels.find("n00000001") == 0
    assert "state_dict" not in model.net.pretrained_cfg
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.net(pixels), net(pixels))


def test_timm_folder_that_does_not_fit(tmp_path):
    net = timm_folder(tmp_path)
    with pytest.raises(BadModel, match=r"expected model.safetensors beside config.json"):
        load(tmp_path)
    state = net.state_dict()
    del state["norm.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(BadModel, match=r"cannot be loaded: .*norm.weight"):
        load(tmp_path)
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    timm_folder(tmp_path, architecture="vit_nonsense")
    with pytest.raises(BadModel, match=r"cannot be loaded: .*vit_nonsense"):
        load(tmp_path)


def test_timm_without_a_head(tmp_path):
    net = timm_folder(
        tmp_path, num_classes=0, pretrained_cfg={"input_size": [3, 32, 32], "num_classes": 0}, label_names=[]
    )
    net.reset_classifier(0)
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(BadModel, match=r"has no classification head; choose a fine-tuned model, or pass headless=True"):
        load(tmp_path)
    model = load(tmp_path, headless=True)
    assert model.labels is None
    assert "callable" in model.note
    assert output(model).shape == (1, 16)


def test_imagenet_names_go_with_a_thousand_classes(tmp_path):
    timm = pytest.importorskip("timm")
    net = timm.create_model("vit_tiny_patch16_224", depth=1)
    assert load(net).labels.find("tabby") == 281
    assert load(timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=9)).labels is None


def hub_entry(root: Path, repo: str, files: Path) -> None:
    """The local cache as huggingface_hub lays it out."""
    folder = root / "hub" / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    shutil.copytree(files, folder / "snapshots" / ("0" * 40))


def test_timm_published_weights_from_the_cache(tmp_path):
    timm = pytest.importorskip("timm")
    net = timm.create_model("vit_tiny_patch16_224").eval()
    (tmp_path / "files").mkdir()
    save_file(net.state_dict(), tmp_path / "files/model.safetensors")
    hub_entry(tmp_path, "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", tmp_path / "files")
    for name in ("timm:vit_tiny_patch16_224", "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k"):
        model = load(name)
        assert model.name == name
        assert model.source == "timm vit_tiny_patch16_224.augreg_in21k_ft_in1k"
        assert torch.equal(model.net.head.weight, net.head.weight)
        assert model.labels.find("tabby") == 281


def test_hub_model_of_timm_from_the_cache(tmp_path):
    net = timm_folder(tmp_path / "files")
    save_file(net.state_dict(), tmp_path / "files/model.safetensors")
    hub_entry(tmp_path, "someone/tiny", tmp_path / "files")
    model = load("someone/tiny")
    assert model.name == "someone/tiny"
    assert torch.equal(model.net.head.weight, net.head.weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:vit_tny_patch16_224", "no timm model 'vit_tny_patch16_224'; did you mean 'vit_tiny_patch16_224'"),
        ("timm:vit_tiny_patch16_224.augreg", "no weights of timm:vit_tiny_patch16_224 'augreg'; (did you mean|known)"),
        ("timm:", "no timm model ''"),
        ("torchvision:vit_b16", "no torchvision model 'vit_b16'; did you mean 'vit_b_16'"),
        ("torchvision:vit_b_16.V9", "no weights of torchvision:vit_b_16 'V9'; .*IMAGENET1K_V1"),
        ("vit_base_patch16_224", "did you mean timm:vit_base_patch16_224"),
        ("bundle", "no model 'bundle'; expected one of bundled, ORG/NAME, timm:NAME"),
        ("keras:vit", "no model 'keras:vit'; expected one of"),
        ("./nowhere/at/all", "no model './nowhere/at/all'; expected one of .*FOLDER"),
        ("", "no model ''"),
        ("a" * 5000, "no model .*; expected one of"),
        ("a\0b", "no model .*; expected one of"),
    ],
)
def test_names_that_do_not_exist(name, message):
    with pytest.raises(UnknownName, match=message):
        load(name)


def test_timm_without_published_weights():
    pytest.importorskip("timm")
    with pytest.raises(BadModel, match=r"timm publishes no weights for beit3_giant_patch14_224; give weights=FILE"):
        load("timm:beit3_giant_patch14_224")


# torchvision


def test_torchvision(tmp_path):
    models = pytest.importorskip("torchvision.models")
    net = models.squeezenet1_1(num_classes=5)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    model = load("torchvision:squeezenet1_1", weights=tmp_path / "w.pth")
    assert output(model).shape == (1, 5)
    assert model.labels is None
    assert model.preprocess.resize_to == (256, 256)
    assert model.preprocess.interpolation == "bilinear"


def test_torchvision_published_weights_from_the_cache(tmp_path):
    models = pytest.importorskip("torchvision.models")
    net = models.squeezenet1_1()
    url = models.SqueezeNet1_1_Weights.DEFAULT.url
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    torch.save(net.state_dict(), folder / url.split("/")[-1])
    for name in ("torchvision:squeezenet1_1", "torchvision:squeezenet1_1.IMAGENET1K_V1"):
        model = load(name)
        assert model.source == "torchvision SqueezeNet1_1_Weights.IMAGENET1K_V1"
        assert torch.equal(model.net.classifier[1].weight, net.classifier[1].weight)
        assert model.labels.find("tabby") == 281
    torch.save({"x": Evil()}, folder / url.split("/")[-1])
    with pytest.raises(BadModel, match=r"cannot be loaded: .*[Ww]eights"):
        load("torchvision:squeezenet1_1")


# transformers


def transformers_folder(folder: Path, head: str = "ViTForImageClassification", **options) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = transformers.ViTConfig(**size, image_size=32, patch_size=8, **options)
    net = getattr(transformers, head)(config).eval()
    net.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.1, 0.2, 0.3]).save_pretrained(folder)
    return net


NAMES = {0: "tabby, tabby cat", 1: "dog", 2: "bird"}


def test_transformers_folder(tmp_path):
    net = transformers_folder(tmp_path, id2label=NAMES)
    model = load(str(tmp_path))
    assert not model.net.training
    assert model.source == f"transformers ViTForImageClassification from {tmp_path}"
    assert model.labels.find("tabby") == 0
    assert model.preprocess.size == (32, 32)
    assert model.preprocess.mean == (0.1, 0.2, 0.3)
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.net(pixels).logits, net(pixels).logits)


def test_transformers_half_precision_is_computed_in_full(tmp_path):
    transformers_folder(tmp_path).half().save_pretrained(tmp_path)
    assert {p.dtype for p in load(tmp_path).net.parameters()} == {torch.float32}
    assert {p.dtype for p in load(tmp_path, dtype=torch.float64).net.parameters()} == {torch.float64}


def test_transformers_pickled_weights(tmp_path):
    net = transformers_folder(tmp_path, num_labels=4)
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert torch.equal(load(tmp_path).net.classifier.weight, net.classifier.weight)
    torch.save({"x": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BadModel, match=r"transformers cannot load it"):
        load(tmp_path)


def test_transformers_placeholder_names_are_no_names(tmp_path):
    transformers_folder(tmp_path, num_labels=4)
    model = load(tmp_path)
    assert model.labels is None
    with pytest.raises(BadModel, match=r"3 class names were given for a model with 4 classes"):
        load(tmp_path, labels=["a", "b", "c"])


def test_transformers_without_a_head(tmp_path):
    transformers_folder(tmp_path, head="ViTModel")
    with pytest.raises(BadModel, match=r"no image classification head \(its architecture is ViTModel\), .*random"):
        load(tmp_path)
    model = load(tmp_path, headless=True)
    assert model.labels is None
    assert "callable" in model.note
    assert type(model.net).__name__ == "ViTModel"


def test_transformers_head_that_is_missing_from_the_file(tmp_path):
    state = transformers_folder(tmp_path).state_dict()
    del state["classifier.weight"], state["classifier.bias"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadModel, match=r"2 weights are missing .* random: classifier.bias, classifier.weight"):
        load(tmp_path)


def test_transformers_folders_with_faults(tmp_path):
    transformers_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(BadModel, match=r"no preprocessor_config.json"):
        load(tmp_path)
    assert load(tmp_path, preprocess=Preprocess((32, 32))).preprocess == Preprocess((32, 32))
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in [
        ({"model_type": "nonsense"}, "cannot load it as AutoConfig: .*nonsense"),
        ({"hidden_size": 24}, "cannot load it as AutoModelForImageClassification|of another shape"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(BadModel, match=message):
            load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadModel, match=r"config.json' is not readable JSON"):
        load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(BadModel, match=r"there is no config.json"):
        load(tmp_path)


def test_transformers_never_runs_code_from_a_folder(tmp_path):
    transformers_folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "custom", "auto_map": {"AutoConfig": "evil.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(BadModel, match=r"cannot load it as AutoConfig"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_hub_model_of_transformers_from_the_cache(tmp_path):
    net = transformers_folder(tmp_path / "files", id2label=NAMES)
    hub_entry(tmp_path, "someone/vit", tmp_path / "files")
    model = load("someone/vit")
    assert model.source == "transformers ViTForImageClassification from someone/vit"
    assert torch.equal(model.net.classifier.weight, net.classifier.weight)


# open_clip


def test_open_clip(tmp_path, monkeypatch):
    open_clip = pytest.importorskip("open_clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "ViT-nano.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "ViT-nano.json")
    net = open_clip.create_model("ViT-nano").eval()
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    model = load("open_clip:ViT-nano", weights=tmp_path / "w.safetensors")
    assert model.labels is None
    assert model.captions.length == 8
    assert model.preprocess.size == (32, 32)
    assert model.preprocess.mean[0] == pytest.approx(0.48145466)
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.net.pictures(pixels), net.encode_image(pixels))
    with pytest.raises(BadModel, match=r"name the weights too; published are none: give weights=FILE"):
        load("open_clip:ViT-nano")


def test_open_clip_names():
    pytest.importorskip("open_clip")
    with pytest.raises(
        BadModel, match=r"open_clip:ViT-B-32: name the weights too; .*open_clip:ViT-B-32/laion2b_s34b_b79k"
    ):
        load("open_clip:ViT-B-32")
    with pytest.raises(UnknownName, match=r"no weights of open_clip:ViT-B-32 'laion'"):
        load("open_clip:ViT-B-32/laion")
    with pytest.raises(UnknownName, match=r"no open_clip model 'ViT-B-33'; did you mean 'ViT-"):
        load("open_clip:ViT-B-33")


# Weights files


class Evil:
    """Unpickling it would run code."""

    def __reduce__(self):
        return print, ("code ran",)


def test_weights_files_with_faults(tmp_path, tiny, capsys):
    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3, "model": {"lr": 0.1}}, tmp_path / "keys.pth")
    torch.save(tiny.state_dict(), tmp_path / "cut.pth")
    save_file(tiny.state_dict(), tmp_path / "cut.safetensors")
    for name in ("cut.pth", "cut.safetensors"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:1000])
    for name in ("empty.pth", "empty.safetensors", "w.ckpt", "w.onnx"):
        (tmp_path / name).touch()
    for name, message in [
        ("evil.pth", "hold Python objects that could run code, which is refused"),
        ("list.pth", "expected tensors by name, or a dict with them, got list"),
        ("keys.pth", r"expected tensors by name, .* got the keys \['lr'\]"),
        ("cut.pth", "damaged"),
        ("cut.safetensors", "damaged or cut short"),
        ("empty.pth", "damaged"),
        ("empty.safetensors", "damaged"),
        ("w.onnx", "expected a file ending in .safetensors"),
        ("none.pth", "no such file"),
    ]:
        with pytest.raises(BadModel, match=message):
            load("timm:vit_tiny_patch16_224", weights=tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("how", [{"model": "w.safetensors"}, {"weights": "w.safetensors"}])
def test_a_bare_weights_file_needs_an_architecture(how):
    with pytest.raises(BadModel, match=r"'w.safetensors' holds weights only: .*--model timm:.* --weights FILE"):
        load(**how)


# Modules


def test_modules_carry_their_preprocessing(tmp_path):
    timm = pytest.importorskip("timm")
    net = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64, num_classes=3)
    model = load(net, labels=["a", "b", "c"])
    assert model.net is net
    assert net.training  # left as it was
    assert model.preprocess.size == (64, 64)
    assert model.preprocess.mean == (0.5, 0.5, 0.5)
    assert model.name == "VisionTransformer"


def test_modules_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    net = transformers_folder(tmp_path, id2label=NAMES)
    default = load(net)
    assert default.preprocess.size == (32, 32)
    assert default.preprocess.mean == (0.5, 0.5, 0.5)
    assert default.note.startswith("preprocessing: the default of vit")
    assert default.labels.find("dog") == 1
    read = load(transformers.AutoModelForImageClassification.from_pretrained(tmp_path))
    assert read.preprocess.mean == (0.1, 0.2, 0.3)
    assert read.note == ""
    read.net.config.name_or_path = "/a/folder/that/is gone"
    assert load(read.net).note != ""


def test_plain_modules():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(
        BadModel, match=r"Sequential does not say how pictures are prepared.*give preprocess=Preprocess"
    ):
        load(net)
    model = load(net, preprocess=Preprocess((2, 2)), labels=Labels(("a", "b")), dtype="float64")
    assert output(model).dtype == torch.float64
    with pytest.raises(BadModel, match=r"weights= goes with a name"):
        load(net, weights="x.pth")
    with torch.no_grad():
        net[1].bias[0] = math.nan
    with pytest.raises(BadModel, match=r"the weight 1\.bias holds 1 values"):
        load(net, preprocess=Preprocess((2, 2)))


# Without network, without packages


@pytest.mark.parametrize(
    "name",
    ["someone/unknown", "timm:vit_tiny_patch16_224", "torchvision:vit_b_16", "open_clip:ViT-B-32/laion2b_s34b_b79k"],
)
def test_offline_and_not_cached_is_one_quick_error(name, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    if name.startswith("open_clip"):
        pytest.importorskip("open_clip")
    start = time.monotonic()
    with pytest.raises(BadModel, match=r"not in the local cache and .* cannot be reached; .*weights=FILE"):
        load(name)
    assert time.monotonic() - start < 10


def test_offline_mode(monkeypatch):
    monkeypatch.setattr(pytest.importorskip("huggingface_hub.constants"), "HF_HUB_OFFLINE", True)
    with pytest.raises(BadModel, match=r"someone/unknown is not in the local cache, and HF_HUB_OFFLINE is set"):
        load("someone/unknown")


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [(404, "RepoNotFound", "the hub has no model a/b, or it is private"), (403, "GatedRepo", "licence to be accepted")],
)
def test_refusals_of_the_hub(monkeypatch, code, error, message):
    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.send_header("X-Error-Code", error)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_) -> None:
            pass

    for variable in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    server = HTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    constants = pytest.importorskip("huggingface_hub.constants")
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
    try:
        with pytest.raises(BadModel, match=message):
            load("a/b")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("package", "name", "command"),
    [
        ("timm", "timm:vit_tiny_patch16_224", r"pip install 'gradtoken\[timm\]'"),
        ("torchvision", "torchvision:vit_b_16", r"pip install 'gradtoken\[torchvision\]'"),
        ("open_clip", "open_clip:ViT-B-32/openai", r"pip install 'gradtoken\[open-clip\]'"),
        ("huggingface_hub", "someone/unknown", r"pip install 'gradtoken\[transformers\]'"),
    ],
)
def test_missing_packages(monkeypatch, package, name, command):
    for module in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=f"{package} is not installed; run: {command}"):
        load(name)


def test_importing_load_imports_no_model_library():
    code = "import sys, gradtoken.models.load; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"timm", "transformers", "torchvision", "open_clip", "huggingface_hub"} & set(done.stdout.split())


def test_known_models():
    forms = known_models()
    assert forms[0].pattern == "bundled"
    assert forms[0].installed
    assert {form.library for form in forms} == {"gradtoken", "timm", "torchvision", "transformers", "open_clip"}


# Real weights


@pytest.mark.skipif(not (DATA / "deit_tiny").exists(), reason="DeiT-tiny is not beside this checkout")
def test_deit_tiny_sees_a_dog():
    model = load("timm:deit_tiny_patch16_224", weights=DATA / "deit_tiny/deit_tiny_patch16_224.safetensors")
    picture = Image.open(DATA / "pictures/dogs.png").convert("RGB")
    with torch.no_grad():
        best = model.net(model.preprocess(picture).pixels[None]).argmax().item()
    assert 151 <= best <= 268  # the dog breeds
    assert len(model.labels) == 1000


@pytest.mark.skipif(not (DATA / "vit_tiny").exists(), reason="ViT-tiny is not beside this checkout")
def test_vit_tiny_in_half_precision():
    model = load("timm:vit_tiny_patch16_224", weights=DATA / "vit_tiny/vit_tiny_patch16_224.safetensors")
    assert {p.dtype for p in model.net.parameters()} == {torch.float32}
    picture = Image.open(DATA / "pictures/el1.png").convert("RGB")
    with torch.no_grad():
        best = model.net(model.preprocess(picture).pixels[None]).argmax().item()
    assert best in (
        model.labels.find("African elephant"),
        model.labels.find("Indian elephant"),
        model.labels.find("tusker"),
    )
