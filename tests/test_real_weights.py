"""The real thing: two trained ViTs on photographs, where they are at hand beside the repository."""

import copy
from pathlib import Path

import pytest
import torch

import gradtoken
from gradtoken.models.model import Model
from gradtoken.models.pictures import open_picture
from tests.reference import gradtoken as oracle

DATA = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the trained weights and photographs are not here")
ZEBRA, ELEPHANT, TIGER_CAT, BULL_MASTIFF = 340, 386, 282, 243


@pytest.fixture(scope="module", params=["deit_tiny", "vit_tiny"])
def model(request) -> Model:
    pytest.importorskip("timm")
    name = f"{request.param}_patch16_224"
    return gradtoken.load(f"timm:{name}", weights=DATA / request.param / f"{name}.safetensors")


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_equals_the_reference(model, dtype, bound):
    """Float32 is bounded by the model's own rounding: 1.1e-5 in the product of eleven blocks, 1e-6 in the default."""
    picture = open_picture(DATA / "pictures" / "el1.png")
    x, target = model.preprocess(picture).pixels[None].to(dtype), torch.tensor([ZEBRA])
    record = oracle.capture(model.net, x, target)
    net = copy.deepcopy(model.net).to(dtype)
    for propagation in oracle.PROPAGATIONS:
        expected = oracle.relevance(record, first=1, tokens=196, propagation=propagation)
        ours = gradtoken.attribute(net, x, target, propagation=propagation).flatten(1)
        assert (ours - expected).abs().max() < bound * expected.abs().max(), propagation


@pytest.mark.parametrize(
    ("file", "classes", "axis"),
    [("el1.png", (ZEBRA, ELEPHANT), 1), ("catdog.png", (BULL_MASTIFF, TIGER_CAT), 0)],
)
def test_two_classes_lie_where_the_animals_are(model, file, classes, axis):
    """In the one picture the zebra stands left of the elephant, in the other the dog sits above the cat."""
    pair = gradtoken.explain(DATA / "pictures" / file, model, list(classes))
    shares = [torch.from_numpy(one.relevance / one.relevance.sum()) for one in pair]
    difference = shares[0] - shares[1]
    position = torch.arange(14.0)
    means = [(difference.mul(sign).clamp(min=0).sum(dim=1 - axis) * position).sum() for sign in (1, -1)]
    mass = difference.clamp(min=0).sum()
    assert means[0] / mass + 1 < means[1] / mass, "centre of what speaks for the first class rather than the second"
