"""The three checks of one map, against what the protocols' formulas give and on maps that must fail."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

import gradtoken
from gradtoken.checking import CLASS, NOISE, check
from gradtoken.cli import app
from gradtoken.errors import BadRelevance, UnknownName
from gradtoken.models.bundled import FOLDER
from tests.test_doubts import model, picture  # noqa: F401  a fixture


def values(found):
    return {(one.method, one.check.name): one for one in found}


def test_the_class_is_compared_with_the_most_probable_other(picture):  # noqa: F811
    own = model()
    found = values(check(picture, own, "dog", "grad_eclip"))[("grad_eclip", "class")]
    pixels = own.preprocess(picture).pixels[None]
    logits = own.net(pixels)[0].detach()
    other = max((float(v), i) for i, v in enumerate(logits) if i != 1)[1]
    a, b = gradtoken.attribute(own.net, pixels, [[1, other]], "grad_eclip")[0].flatten(1).numpy()
    assert found.value == pytest.approx(1 - stats.spearmanr(a, b).statistic, abs=1e-5)
    assert found.passed is (found.value >= CLASS)


def test_maps_that_know_no_class_or_no_weights_fail(picture):  # noqa: F811
    found = values(check(picture, model(), "dog", ["random", "rollout"]))
    assert found["random", "class"].value == found["rollout", "class"].value == 0
    assert found["random", "class"].passed is found["rollout", "class"].passed is False
    assert found["random", "weights"].value == pytest.approx(1)  # the same numbers for any network
    assert found["random", "weights"].passed is False
    assert found["random", "noise"].value == 0
    assert found["random", "noise"].passed is True
    assert "says nothing of this class" in found["rollout", "class"].told


def test_noise_is_the_largest_relative_change(picture):  # noqa: F811
    own = model()
    found = values(check(picture, own, "dog", "input_x_gradient"))["input_x_gradient", "noise"]
    assert found.value > 0
    assert found.passed is (found.value <= NOISE)
    pixels = own.preprocess(picture).pixels[None]
    R = gradtoken.attribute(own.net, pixels, 1, "input_x_gradient")
    generator = torch.Generator().manual_seed(1)
    near = [
        gradtoken.attribute(
            own.net, pixels + 0.02 * (2 * torch.rand(pixels.shape, generator=generator) - 1), 1, "input_x_gradient"
        )
        for _ in range(5)
    ]
    again = max(float((n - R).norm() / R.norm()) for n in near)  # other draws of the same noise
    assert 0.5 < found.value / again < 2


def test_scores_that_are_no_class_have_no_verdict_on_the_class(picture):  # noqa: F811
    found = values(check(picture, model(), lambda y: y[:, 0] - y[:, 1], "input_x_gradient"))
    assert math.isnan(found["input_x_gradient", "class"].value)
    assert found["input_x_gradient", "class"].passed is None
    assert "the target is no class" in found["input_x_gradient", "class"].told
    assert found["input_x_gradient", "weights"].passed is not None


def test_the_network_is_left_as_it_was(picture):  # noqa: F811
    own = model()
    own.net.train()
    before = {name: w.clone() for name, w in own.net.state_dict().items()}
    check(picture, own, "dog", "grad_eclip")
    assert own.net.training
    for name, w in own.net.state_dict().items():
        torch.testing.assert_close(w, before[name], rtol=0, atol=0)


def test_refusals(picture):  # noqa: F811
    with pytest.raises(UnknownName, match="did you mean 'rollout'"):
        check(picture, model(), "dog", "rollot")
    own = model()
    for block in own.net.blocks:
        block.attn.heads = 1
        block.attn.qkv.bias.data[16:32] = 100.0
    with pytest.raises(BadRelevance, match="every value is zero"):
        check(picture, own, [lambda y: y[:, 0], lambda y: -y[:, 0]])


def test_the_shell_prints_a_table(tmp_path):
    cat = str(FOLDER / "pictures" / "cat.jpg")
    arguments = [
        "explain",
        cat,
        "--out",
        str(tmp_path / "a.png"),
        "--check",
        "--method",
        "rollout",
        "--method",
        "gradtoken",
    ]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert (tmp_path / "a.png").exists()
    rows = [line.split() for line in done.output.splitlines() if line.split()[:1] in (["rollout"], ["gradtoken"])]
    assert len(rows) == 6
    assert "fails: it" in done.output
    assert "class: does the map change when another class is asked?" in done.output
    numbers = [float(row[3]) for row in rows]
    assert np.isfinite(numbers).all()


def test_what_is_asked_is_said_once_for_several_pictures(tmp_path):
    pictures = [str(FOLDER / "pictures" / f"{name}.jpg") for name in ("cat", "dog")]
    done = CliRunner().invoke(app, ["explain", *pictures, "--out", str(tmp_path), "--check", "--method", "rollout"])
    assert done.exit_code == 0, done.output
    assert done.output.count("fails: it") == 2
    assert done.output.count("does the map change when another class is asked?") == 1


@pytest.mark.parametrize("more", [["--text", "a dull plot"], ["--words", "a.png"], ["--resume", "a.png"], ["a.txt"]])
def test_the_shell_refuses_checks_of_what_has_none(more):
    done = CliRunner().invoke(app, ["explain", *more, "--check"])
    assert done.exit_code == 2
    assert "--check is of pictures that are drawn now" in " ".join(done.stderr.replace("\u2502", "").split())
