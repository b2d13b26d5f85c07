"""What nobody should ask for, and models that do what they should not."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradtoken.attribution import attribute
from gradtoken.errors import BadModel, BadTarget, GradTokenError
from gradtoken.methods import METHODS
from gradtoken.models.vit import VisionTransformer
from gradtoken.registry import fits, told
from tests import zoo
from tests.methods.test_every_method import CHEAP
from tests.zoo import shaken

WRONG = [  # method, option, value
    ("beyond_intuition", "steps", 1.5),
    ("gradient_shap", "samples", "x"),
    ("gradient_shap", "baselines", None),
    ("integrated_gradients", "steps", True),
    ("integrated_gradients", "baseline", "black"),
    ("alti", "p", "x"),
    ("occlusion", "window", "x"),
    ("occlusion", "stride", 1.5),
    ("occlusion", "baseline", [0.0]),
    ("abs_lrp", "contrastive", torch.zeros(2)),
    ("random", "generator", 0),
    ("vit_cx", "threshold", float("nan")),
    ("tis", "centroids", 3),
    ("tis", "masks", 2.0),
    ("reciprocam", "class_token", "yes"),
]


class Writing(nn.Module):
    """Normalises its pictures in place, as some models do."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.sub_(0.5).mul_(4))


class Normalising(Writing):
    """The same without writing."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - 0.5) * 4)


@pytest.fixture
def vit() -> nn.Module:
    return shaken(VisionTransformer(classes=5, size=16, patch=4, width=16, depth=3, heads=2, hidden=32))


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", METHODS)
def test_a_model_may_write_to_its_input(vit, x, method):
    kept = x.clone()
    R = attribute(Writing(vit), x, 1, method, allow_blank=True)
    assert torch.equal(x, kept)
    torch.testing.assert_close(R, attribute(Normalising(vit), x, 1, method, allow_blank=True), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("method", "option", "value"), WRONG)
def test_options_of_another_type_are_refused(vit, x, method, option, value):
    with pytest.raises(BadTarget, match=f"expected {option} of {method} as "):
        attribute(vit, x, 0, method, **{option: value})


def test_a_kind_is_told_as_it_is_written():
    assert told(float | Tensor | None) == "float or Tensor or None"
    assert fits([3, 4], int | tuple[int, int] | None)
    assert not fits([3], int | tuple[int, int] | None)


@pytest.mark.parametrize("ratio", [0.0, 2.0, float("inf")])
def test_a_share_of_no_patch_or_of_more_than_all_is_refused(vit, x, ratio):
    with pytest.raises(BadTarget, match="at least one mask that keeps 1 to 16 patches"):
        attribute(vit, x, 0, "tis", ratio=ratio)


def test_one_cluster_is_one_mask(vit, x):
    R = attribute(vit, x, 0, "tis", masks=1)
    assert ((R != 0).sum(dim=(1, 2)) == 8).all()


def test_one_class_has_no_others_to_be_set_against(x):
    net = shaken(VisionTransformer(classes=1, size=16, patch=4, width=16, depth=2, heads=2, hidden=32))
    with pytest.raises(BadTarget, match="contrastive=False"):
        attribute(net, x, 0, "abs_lrp")
    assert attribute(net, x, 0, "abs_lrp", contrastive=False).isfinite().all()


def test_a_callable_target_has_no_others_to_be_set_against(vit, x):
    with pytest.raises(BadTarget, match="names no class; expected a class, or contrastive=False"):
        attribute(vit, x, lambda logits: logits[:, 0], "abs_lrp")
    assert attribute(vit, x, lambda logits: logits[:, 0], "abs_lrp", contrastive=False).isfinite().all()


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (np.zeros((1, 3, 16, 16)), "got ndarray;"),
        ("cat.jpg", "got str;"),
        ({"input_ids": np.zeros(3), "text": "x"}, "got dict of ndarray and str;"),
        ([torch.zeros(3, 16, 16)], "got list of Tensor;"),
    ],
)
def test_inputs_that_are_no_tensors(vit, inputs, told):
    with pytest.raises(BadTarget, match=f"expected tensors as inputs, {told} .*torch.from_numpy.*gradtoken.explain"):
        attribute(vit, inputs)


@pytest.mark.parametrize("method", METHODS)
def test_a_readout_that_is_padding_is_refused(method):
    """DeBERTa reads its first token, which sees nothing where texts are padded on the left."""
    t = pytest.importorskip("transformers")
    size = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 5}
    options = {"intermediate_size": 32, "max_position_embeddings": 12, "pooler_hidden_size": 16}
    net = shaken(t.DebertaV2ForSequenceClassification(t.DebertaV2Config(**size, **options)))
    text = {name: torch.stack([x[0], x[1].roll(2)]) for name, x in zoo.TEXT.items()}
    with pytest.raises(GradTokenError, match=r"padding token|pad on the side|expected inputs \(B, C, H, W\)"):
        attribute(net, text, 1, method, allow_blank=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_block_that_is_used_twice_is_explained_as_two_and_left_as_it_was(vit, x, method):
    vit.blocks[1] = vit.blocks[0]
    before = {name: (weight, weight.clone()) for name, weight in vit.named_parameters()}
    request = {"target": 1, "method": method, "allow_blank": True, **CHEAP.get(method, {})}
    found = attribute(vit, x, **request)
    for name, weight in vit.named_parameters():
        assert weight is before[name][0]
        assert weight.requires_grad
        assert torch.equal(weight, before[name][1])
    two = copy.deepcopy(vit)
    two.blocks[1] = copy.deepcopy(two.blocks[0])
    torch.testing.assert_close(found, attribute(two, x, **request))


@pytest.mark.parametrize("method", ["transattrib", "attn_lrp", "lrp"])
def test_a_weight_that_two_modules_share(vit, x, method):
    vit.blocks[1].mlp.fc1.weight = vit.blocks[0].mlp.fc1.weight
    found = attribute(vit, x, 1, method)
    assert vit.blocks[1].mlp.fc1.weight is vit.blocks[0].mlp.fc1.weight
    two = copy.deepcopy(vit)
    two.blocks[1].mlp.fc1.weight = nn.Parameter(two.blocks[0].mlp.fc1.weight.detach().clone())
    torch.testing.assert_close(found, attribute(two, x, 1, method))


@pytest.mark.parametrize("target", [None, 1])
def test_scores_that_are_no_real_numbers(vit, x, target):
    class Other(Normalising):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).to(torch.complex64)

    class Empty(Normalising):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)[:, :0]

    with pytest.raises(BadTarget, match=r"expected real scores, got torch[.]complex64"):
        attribute(Other(vit), x, target)
    with pytest.raises(BadTarget, match=r"expected logits of shape \(batch, classes\), got \(2, 0\)"):
        attribute(Empty(vit), x, target)


def test_data_parallel_is_the_model_inside(vit, x):
    R = attribute(nn.DataParallel(vit), x, 1, "transattrib")
    torch.testing.assert_close(R, attribute(vit, x, 1, "transattrib"))


# Gradient checkpointing -----------------------------------------------------------------------------------------------


def checkpointed(net: nn.Module, name: str) -> nn.Module:
    """The same model in training, computing its blocks again in the backward pass."""
    net = copy.deepcopy(net).train()
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # newer releases have another name for it
        getattr(net, name)()
    return net


@pytest.fixture(scope="module")
def checkpoints():
    """(model, the same with checkpoints, inputs) by the library."""
    pictures = zoo.pictures(zoo.PICTURES["class token"], 2).double()
    switches = {"timm": "set_grad_checkpointing"}
    models = {"timm": zoo.timm_model, "transformers": zoo.transformers_vit, "text": zoo.bert}
    return {
        name: (net, checkpointed(net, switches.get(name, "gradient_checkpointing_enable")), inputs)
        for name, inputs in (("timm", pictures), ("transformers", pictures), ("text", zoo.TEXT))
        for net in (models[name]().double(),)
    }


@pytest.mark.parametrize("library", ["timm", "transformers", "text"])
@pytest.mark.parametrize("method", METHODS)
def test_checkpoints_change_no_map_or_are_refused(checkpoints, library, method):
    net, twice, inputs = checkpoints[library]
    request = {"target": 1, "method": method, "allow_blank": True, **CHEAP.get(method, {})}
    try:
        expected = attribute(net, inputs, **request)
    except GradTokenError as error:
        pytest.skip(f"without checkpoints too: {error}")
    try:
        torch.testing.assert_close(attribute(twice, inputs, **request), expected)
    except BadModel as error:
        reason = str(error)
    else:
        return
    assert "turn gradient checkpointing off" in reason
    assert library == "timm", "the others have none in evaluation mode"


@pytest.mark.parametrize(
    ("method", "options"), [("grad_eclip", {"official": True}), ("attribution_rollout", {"mode": "paper", "steps": 2})]
)
def test_what_is_changed_inside_a_block_is_not_computed_again_without_the_change(checkpoints, method, options):
    _, twice, inputs = checkpoints["timm"]
    with pytest.raises(BadModel, match="turn gradient checkpointing off"):
        attribute(twice, inputs, 1, method, **options)
