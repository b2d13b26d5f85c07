"""The training script on drawn pictures: it learns, what it saves loads again, and a killed run goes on as if never."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gradtoken
from gradtoken.data.sample import DataSet, Sample
from gradtoken.errors import BadData, BadModel
from gradtoken.models.head import head_of, headless, save, with_head
from gradtoken.models.model import Model
from gradtoken.models.preprocess import Preprocess
from gradtoken.models.vit import VisionTransformer
from tests import zoo

pytest.importorskip("sklearn")
timm = pytest.importorskip("timm")
SCRIPT = Path(__file__).parent.parent / "scripts" / "train_head.py"
DATA = Path(__file__).parents[2] / "shared" / "data"
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
SQUASHED = Preprocess((16, 16))


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("train_head", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def squares(count: int, seed: int) -> DataSet:
    """Grey pictures with a square of none, one or several colours: the labels."""

    def read(number: int) -> Sample:
        rng = np.random.default_rng((seed, number))
        pixels = rng.integers(100, 156, (24, 24, 3), dtype=np.uint8)
        labels = tuple(np.flatnonzero(rng.random(3) < 0.4).tolist())
        for place, label in zip(rng.permutation(4), labels, strict=False):
            y, x = 12 * (place // 2), 12 * (place % 2)
            pixels[y + 1 : y + 11, x + 1 : x + 11] = list(COLOURS.values())[label]
        return Sample(str(number), Image.fromarray(pixels), labels)

    return DataSet(f"squares {seed}", [str(i) for i in range(count)], read, tuple(COLOURS))


def tiny(kind: str = "timm") -> Model:
    torch.manual_seed(0)
    if kind == "own":
        net = VisionTransformer(classes=5, size=16, patch=4, width=16, depth=2, heads=2, hidden=32)
        torch.nn.init.trunc_normal_(net.pos_embed, std=0.1)
    else:
        size = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
        net = timm.create_model("vit_tiny_patch16_224", **size)
        net.pretrained_cfg |= {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bicubic"}
        net.pretrained_cfg |= {"mean": SQUASHED.mean, "std": SQUASHED.std}
    return Model(net.eval(), f"tiny {kind}", SQUASHED, None, "random weights")


def recipe(script, **changes):
    return script.Recipe(**{"epochs": 2, "batch": 16, "rate": 1e-3, **changes})


@pytest.fixture(scope="module", params=["timm", "own"])
def trained(request, script, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    run = script.Run(tiny(request.param), squares(64, 0), squares(32, 1), recipe(script, epochs=6), out)
    return out, run, run.run()


def test_it_learns(trained):
    _, _, facts = trained
    head, *epochs = facts["history"]
    assert head["stage"] == "head"
    assert epochs[-1]["loss"] < 0.5 * epochs[0]["loss"]
    assert epochs[-1]["mAP"] > 0.9 > 2 * epochs[-1]["chance"]
    assert set(epochs[-1]["AP"]) == set(COLOURS)


def test_what_is_saved_gives_the_same_logits(trained):
    out, run, facts = trained
    again = gradtoken.load(out)
    assert facts["load"] == f"gradtoken.load({str(out)!r})"
    assert list(again.labels) == list(COLOURS)
    picture = squares(1, 3)[0].input
    ours, theirs = (m.preprocess(picture).pixels[None] for m in (run.model, again))
    assert torch.equal(ours, theirs)
    with torch.no_grad():
        assert torch.equal(run.net(ours), again.net(theirs))
    assert gradtoken.explain(picture, again, "green", allow_blank=True).relevance.shape == (4, 4)
    assert json.loads((out / "facts.json").read_text())["recipe"]["epochs"] == 6


def test_the_file_of_weights_loads_by_the_name_of_its_architecture(tmp_path):
    net = timm.create_model("vit_tiny_patch16_224", depth=12)
    model = with_head(Model(net, "timm:vit_tiny_patch16_224", Preprocess((224, 224)), None, ""), tuple(COLOURS))
    save(model, tmp_path)
    files = {"weights": tmp_path / "model.safetensors", "labels": tmp_path / "labels.json"}
    assert list(gradtoken.load(model.name, **files).labels) == list(COLOURS)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("stage", ["epoch 1", "epoch 2", "head"])
def test_a_killed_run_ends_as_one_that_was_not(script, tmp_path, stage, monkeypatch, capsys):
    def start(name):
        torch.manual_seed(5)
        return script.Run(tiny(), squares(40, 0), squares(16, 1), recipe(script), tmp_path / name)

    whole = start("whole").run()
    report = script.Run.report

    def killed(self, name, *args, **more):
        if name == stage:
            raise Killed("no power")
        report(self, name, *args, **more)

    monkeypatch.setattr(script.Run, "report", killed)
    with pytest.raises(Killed, match="no power"):
        start("killed").run()
    monkeypatch.undo()
    capsys.readouterr()
    facts = start("killed").run()
    assert ("head" in capsys.readouterr().out) == (stage == "head")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1]
    for a, b in zip(whole["history"], facts["history"], strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_a_checkpoint_of_other_settings_is_refused(script, tmp_path):
    script.Run(tiny(), squares(16, 0), squares(8, 1), recipe(script), tmp_path).run(freeze=True)
    with pytest.raises(BadData, match=r"is of another run: .*; repeat its settings, or name another --out"):
        script.Run(tiny(), squares(16, 0), squares(8, 1), recipe(script, rate=1.0), tmp_path)


def test_with_freeze_only_the_head_changes(script, tmp_path):
    model = tiny()
    before = {name: x.clone() for name, x in model.net.state_dict().items()}
    run = script.Run(model, squares(16, 0), squares(8, 1), recipe(script), tmp_path)
    facts = run.run(freeze=True)
    changed = {name for name, x in run.net.state_dict().items() if not torch.equal(x, before[name][: len(x)])}
    assert changed == {"head.weight", "head.bias"}
    assert [row["stage"] for row in facts["history"]] == ["head"]


def test_the_fitted_head_is_the_minimum(script):
    generator = torch.Generator().manual_seed(0)
    X, Y = torch.randn(50, 4, generator=generator), (torch.rand(50, 3, generator=generator) < 0.4).float()
    head = torch.nn.Linear(4, 3)
    script.fit_head(X, Y, head, 0.01)
    residual = (head(X).sigmoid() - Y) / len(Y)
    assert (residual.mT @ X + 0.02 * head.weight).abs().max() < 1e-4
    assert residual.sum(dim=0).abs().max() < 1e-4


def test_average_precision_leaves_out_classes_that_are_never_true(script):
    scores, truth = torch.tensor([[3.0, 1, 2], [2, 2, 1], [1, 3, 3]]), torch.tensor([[1.0, 0, 0], [0, 0, 1], [1, 0, 0]])
    mean, by_class = script.precision(scores, truth)
    assert by_class == pytest.approx([(1 + 2 / 3) / 2, None, 1 / 3])
    assert mean == pytest.approx((5 / 6 + 1 / 3) / 2)


def test_views_depend_on_seed_epoch_and_number_alone(script):
    data, settings = squares(4, 0), recipe(script)

    def view(epoch, number):
        return script.RandomViews(data, SQUASHED, settings, epoch)[number][0]

    first = view(0, 1)
    torch.rand(3)
    assert torch.equal(first, view(0, 1))
    assert not torch.equal(first, view(1, 1))
    state = torch.random.get_rng_state()
    view(0, 2)
    assert torch.equal(state, torch.random.get_rng_state())


def test_workers_read_the_same_pictures(script):
    views = script.RandomViews(squares(6, 0), SQUASHED, recipe(script), 0)
    alone, two = ([x for x, _ in script.loader(views, 2, workers, [3, 1, 2, 0, 5, 4])] for workers in (0, 2))
    assert torch.equal(torch.cat(alone), torch.cat(two))


def test_the_rate_rises_and_falls_to_zero(script):
    rates = [script.rate_at(step, 100, recipe(script, rate=1.0)) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3


def test_transformers_models_are_saved_with_their_processor(tmp_path):
    transformers = pytest.importorskip("transformers")
    net = zoo.transformers_vit()
    net.save_pretrained(tmp_path / "base")
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "base")
    model = with_head(gradtoken.load(tmp_path / "base"), tuple(COLOURS))
    torch.nn.init.normal_(model.net.classifier.weight)
    save(model, tmp_path / "new")
    again = gradtoken.load(tmp_path / "new")
    x = zoo.pictures(zoo.PICTURES["transformers"])
    assert torch.equal(model.net(x).logits, again.net(x).logits)
    assert again.preprocess == model.preprocess
    assert list(again.labels) == list(COLOURS)


def test_other_networks_are_saved_as_weights(tmp_path):
    model = with_head(Model(zoo.torchvision_vit(), "torchvision:vit_b_16", SQUASHED, None, ""), tuple(COLOURS))
    told = save(model, tmp_path)
    assert told.startswith("gradtoken.load('torchvision:vit_b_16', weights=")
    assert json.loads((tmp_path / "labels.json").read_text()) == list(COLOURS)
    assert (tmp_path / "model.safetensors").is_file()


def test_headless_gives_what_the_head_reads():
    model = tiny()
    x, name = torch.rand(2, 3, 16, 16), head_of(model.net, model.preprocess)
    with torch.no_grad():
        with headless(model.net, name):
            features = model.net(x)
        assert torch.equal(model.net.head(features), model.net(x))


def test_a_model_with_two_heads_is_refused():
    net = zoo.PICTURES["distilled"].build()
    with pytest.raises(BadModel, match=r"expected one linear layer .* with 5 outputs .* found \['head', 'head_dist'\]"):
        with_head(Model(net, "tiny", SQUASHED, None, ""), ("a", "b"))


def test_parts_with_other_classes_are_refused(script, tmp_path):
    other = DataSet("other", ["0"], squares(1, 0).read, ("red",))
    with pytest.raises(BadData, match="expected classes, the same in both parts"):
        script.Run(tiny(), squares(8, 0), other, recipe(script), tmp_path)


def test_a_random_part_is_held_out(script):
    train, val = script.halves(squares(10, 0), 0.3, 0)
    assert len(val) == 3
    assert sorted([*train.ids, *val.ids], key=int) == [str(i) for i in range(10)]
    assert train[0].id == train.ids[0]


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the trained weights and photographs are not here")
def test_groups_and_a_fitted_head_know_photographs(script, tmp_path):
    weights = DATA / "deit_tiny" / "deit_tiny_patch16_224.safetensors"
    told = ["--model", "timm:deit_tiny_patch16_224", "--weights", str(weights), "--data", str(DATA / "coco")]
    facts = script.main([*told, "--hold-out", "0.3", "--out", str(tmp_path), "--freeze"])
    groups, head = (row["mAP"] for row in facts["history"])
    assert min(groups, head) > 4 * facts["history"][0]["chance"]
