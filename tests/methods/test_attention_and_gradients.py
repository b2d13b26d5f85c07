"""The attention and gradient methods against naive float64 references."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from gradtoken import readout
from gradtoken.methods import METHODS
from gradtoken.methods.class_embedding_projection import class_identifiability
from gradtoken.methods.libra import Method
from gradtoken.probe import Probe
from tests import zoo
from tests.reference import attention, gradients, libra, models, surgery

REFERENCES = {**surgery.REFERENCES, **libra.REFERENCES, **gradients.REFERENCES, **attention.REFERENCES}
PIXELS = zoo.pictures(zoo.PICTURES["class token"])
TARGET = torch.tensor([[0, 3], [1, 4]])
CLASS_TOKEN = (zoo.timm_model, PIXELS)
POOLED = (lambda: zoo.timm_model(class_token=False, global_pool="avg"), PIXELS)
LAYER_SCALE = (lambda: zoo.timm_model(init_values=0.1), PIXELS)
TEXT = (zoo.bert, zoo.TEXT)
EVERY = {"class token": CLASS_TOKEN, "mean": POOLED, "layer scale": LAYER_SCALE, "text": TEXT}
CLASS_OR_TEXT = {"class token": CLASS_TOKEN, "text": TEXT}

OPTIONS = {
    "agcam": [{}],
    "attcat": [{}],
    "attribution_rollout": [{}, {"mode": "paper", "steps": 3}],
    "beyond_intuition": [{"steps": 3}, {"start": 1, "steps": 3}],
    "class_embedding_projection": [{}, {"gradient": "logit"}],
    "generic_attention": [{}, {"start": 2}],
    "grad_eclip": [{}, {"official": True}],
    "gradcam": [{}],
    "gradcam_features": [{}],
    "legrad": [{}, {"layers": "all"}, {"layers": 1}],
    "rollout": [{}, {"start": 2}],
    "self_attention_attribution": [{"steps": 3}],
    "transition_attention_maps": [{"steps": 3}, {"start": 0, "integral": False}, {"first_state": True, "steps": 3}],
}
TOKENS = {"beyond_intuition": [{"mode": "token", "start": 1, "steps": 3}]}
SURGERY = {
    "input_x_gradient": [{}],
    "libra": [{"of": method, "score": score} for method in get_args(Method) for score in ("probability", "logit")],
}
RUNS = [
    pytest.param(name, options, *case, id=f"{name}-{label}-{options}")
    for cases, table in ((EVERY, OPTIONS), (CLASS_OR_TEXT, TOKENS | SURGERY))
    for name, several in table.items()
    for options in several
    for label, case in cases.items()
]


def worst(ours: Tensor, reference: Tensor) -> float:
    """Largest error, relative to the largest value of the map."""
    return ((ours - reference).abs().max() / reference.abs().max().clamp(min=1e-30)).item()


@pytest.mark.parametrize(("name", "options", "build", "inputs"), RUNS)
def test_equals_the_reference(name, options, build, inputs):
    net = build().double()
    inputs = inputs if isinstance(inputs, dict) else inputs.double()
    expected = REFERENCES[name](models.weights(net), inputs, TARGET, **options)
    ours = METHODS[name].bind(options)(Probe(net, inputs, TARGET))
    assert ours.shape == expected.shape
    by_captum = options.get("of") == "integrated_gradients"  # which has its weights of steps in float32
    assert worst(ours, expected) < (1e-8 if by_captum else 1e-10)


@pytest.mark.parametrize("name", OPTIONS)
def test_rows_may_be_formed_one_at_a_time(name, monkeypatch):
    net, options = POOLED[0]().double(), OPTIONS[name][0]
    together = METHODS[name].bind(options)(Probe(net, PIXELS.double(), TARGET))
    monkeypatch.setattr(readout, "CELLS", 1)
    torch.testing.assert_close(METHODS[name].bind(options)(Probe(net, PIXELS.double(), TARGET)), together)


@pytest.mark.parametrize("name", [*OPTIONS, "libra"])
def test_attention_written_by_hand_has_the_same_map(name):
    options = {**OPTIONS, "libra": [{}]}[name][0]
    nets = zoo.timm_model().double(), zoo.by_hand(zoo.timm_model).double()
    nets[1].load_state_dict(nets[0].state_dict())
    one, two = (METHODS[name].bind(options)(Probe(net, PIXELS.double(), TARGET)) for net in nets)
    assert worst(two, one) < 1e-10


@pytest.mark.parametrize("name", [*OPTIONS, "input_x_gradient", "libra"])
def test_half_precision_gives_nearly_the_same_map(name):
    run = METHODS[name].bind(OPTIONS.get(name, [{}])[0])
    net, x = zoo.timm_model(), PIXELS.bfloat16()
    expected = run(Probe(net, x.float(), TARGET))
    ours = run(Probe(net.bfloat16(), x, TARGET))
    assert ours.dtype == torch.float32
    assert worst(ours, expected) < 0.1


@pytest.mark.parametrize("case", EVERY)
def test_class_identifiability_equals_the_reference(case):
    build, inputs = EVERY[case]
    net = build().double()
    inputs = inputs if isinstance(inputs, dict) else inputs.double()
    ours, expected = class_identifiability(net, inputs, TARGET), gradients.class_identifiability(net, inputs, TARGET)
    seen = inputs["attention_mask"].bool() if isinstance(inputs, dict) else torch.ones(2, ours.shape[3]).bool()
    for sample in range(2):  # what the head makes of padding alone is no matter
        torch.testing.assert_close(ours[sample, ..., seen[sample]], expected[sample, ..., seen[sample]])
    assert len(expected.unique()) == zoo.CLASSES + (not seen.all())
