"""The simple call, on a small model of our own and pictures made here."""

import numpy as np
import pytest
import torch
from PIL import Image

import gradtoken
from gradtoken.errors import BadModel, BadRelevance, BadTarget, UnknownName
from gradtoken.models.labels import Labels
from gradtoken.models.model import Model
from gradtoken.models.preprocess import Preprocess
from gradtoken.models.vit import VisionTransformer
from tests import zoo

NAMES = Labels(("cat, house cat", "dog", "horse", "boat", "bird"))


@pytest.fixture
def model() -> Model:
    net = zoo.shaken(VisionTransformer(classes=5, size=32, patch=8, width=16, depth=3, heads=2, hidden=32))
    return Model(net, "small", Preprocess((32, 32)), NAMES, "made here", "a note")


@pytest.fixture
def picture() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def test_an_explanation_says_what_it_is(model, picture):
    one = gradtoken.explain(picture, model, "dog", heads="mean")
    pixels = model.preprocess(picture).pixels[None]
    logits = model.net(pixels)[0]
    torch.testing.assert_close(torch.tensor(one.logit), logits[1].detach())
    assert one.probability == pytest.approx(logits.softmax(0)[1].item(), rel=1e-5)
    assert (one.target, one.name, one.model, one.method) == (1, "dog", "small", "gradtoken")
    assert one.options == {"heads": "mean"}
    assert one.predicted[0][0] == NAMES[int(logits.argmax())]
    assert one.box == (0, 0, 80, 50)
    assert torch.__version__.startswith(one.versions["torch"])
    assert one.note == "a note"
    expected = gradtoken.attribute(model.net, pixels, 1, heads="mean")[0]
    np.testing.assert_array_equal(one.relevance, expected.numpy())


def test_targets_share_one_forward_pass(model, picture):
    runs = []
    model.net.head.register_forward_hook(lambda *_: runs.append(1))
    gradtoken.explain(picture, model, "dog", heads="mean")  # the first run also finds the layout
    runs.clear()
    both = gradtoken.explain(picture, model, ["dog", "House cat", 3, None], ["gradtoken"], heads="mean")
    assert len(runs) == 1
    assert [one.target for one in both][:3] == [1, 0, 3]
    assert both[3].name == both[3].predicted[0][0]
    for one in both:
        alone = gradtoken.explain(picture, model, one.target, heads="mean")
        np.testing.assert_allclose(one.relevance, alone.relevance, rtol=1e-5, atol=1e-7)


def test_methods_and_targets_are_a_grid(model, picture):
    grid = gradtoken.explain(picture, model, ["dog", "cat, house cat"], ["raw_attention", "raw_attention"])
    assert [(one.method, one.target) for one in grid] == [("raw_attention", t) for t in (1, 0, 1, 0)]


def test_callables(model, picture):
    def contrast(logits):
        return logits[:, 0] - logits[:, 1]

    one = gradtoken.explain(picture, model, contrast, heads="mean")
    cat, dog = gradtoken.explain(picture, model, [0, 1], heads="mean")
    np.testing.assert_allclose(one.relevance, cat.relevance - dog.relevance, rtol=1e-4, atol=1e-6)
    assert (one.name, one.target, one.probability, one.predicted) == ("contrast", None, None, ())


def test_refusals(model, picture):
    with pytest.raises(UnknownName, match=r"no class is named 'dgo'; did you mean 'dog' \(1\)"):
        gradtoken.explain(picture, model, "dgo")
    with pytest.raises(BadTarget, match=r"class index 5 is out of range; this model has 5 classes"):
        gradtoken.explain(picture, model, 5)
    with pytest.raises(BadTarget, match="at least one target, got an empty list"):
        gradtoken.explain(picture, model, [])
    with pytest.raises(BadTarget, match="at least one method, got an empty list"):
        gradtoken.explain(picture, model, method=[])


@pytest.mark.parametrize(
    ("target", "message"),
    [(lambda logits: 1.0, "one score, .* got float"), (lambda logits: logits, r"one score, .* got \(1, 5\)")],
)
def test_callables_that_give_no_score(model, picture, target, message):
    with pytest.raises(BadTarget, match=message):
        gradtoken.explain(picture, model, target)


def test_logits_that_are_not_finite(model, picture):
    model.net.head.bias.data[3] = torch.nan
    with pytest.raises(BadModel, match="output is not finite"):
        gradtoken.explain(picture, model, "dog")  # whose own logit is a number


def test_blank_maps_are_kept_on_request(model, picture):
    for block in model.net.blocks:  # one head with a large bias on every key: every token has the same sign
        block.attn.heads = 1
        block.attn.qkv.bias.data[16:32] = 100.0
    targets = [lambda logits: logits[:, 0], lambda logits: -logits[:, 0]]
    maps = gradtoken.explain(picture, model, targets, allow_blank=True)
    assert sorted(bool(one.relevance.any()) for one in maps) == [False, True]
    with pytest.raises(BadRelevance, match="allow_blank=True"):
        gradtoken.explain(picture, model, targets)


def test_public_names():
    assert len(gradtoken.__all__) <= 14
    for name in gradtoken.__all__:
        assert getattr(gradtoken, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'explian'"):
        gradtoken.explian  # noqa: B018


def test_versions_are_known_where_nothing_was_installed(monkeypatch):
    import importlib.metadata

    from gradtoken.provenance import versions

    def missing(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert versions()["gradtoken"] == gradtoken.__version__
    assert versions()["torch"] == torch.__version__
