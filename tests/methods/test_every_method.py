"""What must hold for every method of the registry, whatever its formula."""

import copy

import pytest
import torch

from gradtoken import attribute
from gradtoken.errors import GradTokenError
from gradtoken.manual import options
from gradtoken.methods import METHODS
from gradtoken.probe import Probe
from tests import zoo

CHEAP = {
    "tis": {"masks": 12},
    "transition_attention_maps": {"steps": 3},
    "attribution_rollout": {"steps": 3},
    "self_attention_attribution": {"steps": 3},
    "beyond_intuition": {"steps": 3},
    "integrated_gradients": {"steps": 4},
    "gradient_shap": {"samples": 3},
}
TARGETS = torch.tensor([[0, 3], [1, 4], [2, 0]])
PIXELS = ("class token", "registers, mean", "torchvision", "transformers")
UNSTABLE = {"lrp", "abs_lrp", "transattrib", "partial_lrp"}  # relevance is divided by sums that may be near zero


def run(method: str, net, inputs, target=TARGETS, **more):
    return attribute(net, inputs, target, method, allow_blank=True, **CHEAP.get(method, {}), **more)


def supported(method: str, net, inputs, target=TARGETS):
    """The map, or a skip with the reason that the method gives for refusing this model."""
    try:
        return run(method, net, inputs, target)
    except GradTokenError as error:
        reason = str(error)
    assert len(reason) > 40, "a refusal gives its reason"
    pytest.skip(f"{method}: {reason}")


@pytest.fixture(scope="module", params=PIXELS)
def net(request):
    return zoo.PICTURES[request.param].build().double()


@pytest.fixture(scope="module")
def x():
    return zoo.pictures(zoo.PICTURES["class token"], 3).double()


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def text(request):
    return zoo.bert(request.param).double()


def close(a, b, tolerance: float = 1e-7) -> None:
    assert a.shape == b.shape
    assert (a - b).abs().max() <= tolerance * max(a.abs().max(), b.abs().max(), 1e-30)


@pytest.mark.parametrize("method", METHODS)
def test_the_registry_says_what_a_reader_needs(method):
    entry = METHODS[method]
    assert entry.paper.startswith("https://")
    assert entry.formula
    assert entry.cost
    assert entry.summary.endswith(".")
    assert all(hasattr(Probe, need) for need in entry.needs)
    assert all(len(option.meaning) > 10 for option in options(entry)), "each option is told in the docstring"


@pytest.mark.parametrize("method", METHODS)
def test_samples_and_targets_do_not_mix(method, net, x):
    together = supported(method, net, x)
    assert together.shape[:2] == (3, 2)
    assert together.shape[2:] in {(4, 4), (16, 16)}
    assert together.isfinite().all()
    assert not together.requires_grad
    for i in range(3):
        close(together[i : i + 1], run(method, net, x[i : i + 1], TARGETS[i : i + 1]))
    order = [2, 0, 1]
    close(together[order], run(method, net, x[order], TARGETS[order]))
    close(together[:, 1], run(method, net, x, TARGETS[:, 1]))


@pytest.mark.parametrize("method", METHODS)
def test_class_awareness_is_what_the_registry_says(method, net, x):
    maps = supported(method, net, x)
    same = torch.equal(maps[:, 0], maps[:, 1])
    assert same != METHODS[method].class_aware


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(method, net, x):
    before, states = copy.deepcopy(net.state_dict()), [module.training for module in net.modules()]
    net.train()
    random = torch.random.get_rng_state()
    supported(method, net, x)
    assert all(module.training for module in net.modules())
    net.eval()
    assert states == [module.training for module in net.modules()]
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(random, torch.random.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # importing the compiler warns
@pytest.mark.parametrize("method", METHODS)
def test_every_way_of_calling_gives_the_same_map(method, x):
    net = zoo.timm_model().double()
    expected = supported(method, net, x)
    frozen = copy.deepcopy(net).requires_grad_(False)
    close(expected, run(method, frozen, x))
    with torch.no_grad():
        close(expected, run(method, net, x))
    with torch.inference_mode():
        close(expected, run(method, net, x))
    close(expected, run(method, torch.compile(net), x))


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_gives_nearly_the_same_map(method, x):
    net = zoo.timm_model()
    if method in UNSTABLE:
        pytest.skip("relevance is divided by sums near zero")
    close(supported(method, net, x.float()).double(), run(method, net.double(), x), 2e-2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_pictures_without_contents_give_finite_maps_or_a_reason(method, value, x):
    net = zoo.timm_model().double()
    maps = supported(method, net, torch.full_like(x, value))
    assert maps.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_padding_has_no_relevance(method, text):
    target = torch.tensor([[0, 3], [1, 4]])
    maps = supported(method, text, zoo.TEXT, target)
    assert maps.shape == (2, 2, 6)
    assert (maps[1, :, 4:] == 0).all()
    alone = {name: x[1:, :4] for name, x in zoo.TEXT.items()}
    close(maps[1:, :, :4], run(method, text, alone, target[1:]), 1e-5 if method in UNSTABLE else 1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_pictures_that_are_not_square(method):
    subject = zoo.PICTURES["not square"]
    maps = supported(method, subject.build().double(), zoo.pictures(subject, 1).double(), 0)
    assert maps.shape[1:] in {subject.grid, subject.size}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [n for n in zoo.PICTURES if n not in PIXELS])
def test_other_models_are_explained_or_refused_with_a_reason(method, name):
    subject = zoo.PICTURES[name]
    inputs, target = zoo.pictures(subject, 2).double(), torch.tensor([[0, 1], [2, 3]])
    maps = supported(method, subject.build().double(), inputs, target)
    assert maps.isfinite().all()
    assert maps.shape[2:] in {subject.grid, subject.size}
