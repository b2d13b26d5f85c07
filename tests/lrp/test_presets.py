"""Every row of every preset is called once: same value as the operation, finite gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradtoken.errors import UnknownName
from gradtoken.lrp import ABS_LRP, ATTN_LRP, CP_LRP, LIBRA, LRP_CONSERVATIVE, LRP_PUBLISHED, names
from gradtoken.lrp.presets import BASE, rule_set
from gradtoken.lrp.propagate import branch
from tests.lrp.backward import numbers, pulled

PRESETS = {
    "attn_lrp": ATTN_LRP,
    "cp_lrp": CP_LRP,
    "libra": LIBRA,
    "published": LRP_PUBLISHED,
    "conservative": LRP_CONSERVATIVE,
    "abs_lrp": ABS_LRP,
}
x = numbers(2, 4, 4)
y = numbers(2, 4, 4, seed=1)
w = numbers(4, seed=2).abs()
rows = torch.tensor([0, 2])
HALF = torch.ones(4, 4, dtype=torch.bool).tril()
MHA = nn.MultiheadAttention(4, 2, dtype=torch.float64)
PROJECTION = (4, 2, MHA.in_proj_weight, MHA.in_proj_bias, None, None, False, 0.0, MHA.out_proj.weight, None)
PICTURE, KERNEL = numbers(2, 4, 4, 4), numbers(3, 4, 2, 2, seed=1)

# What follows x, by the name of the operation; groups whose operations are called alike come first.
GROUPS = [
    (names.ADD + names.SUB + names.MUL + names.RSUB, lambda op, x: op(x, y)),
    (names.DIV, lambda op, x: op(x, w)),
    (names.MATMUL, lambda op, x: op(x[0], y[0]) if op.__name__ == "mm" else op(x, y)),
    (names.LINEAR, lambda op, x: op(x, y[0], w)),
    ((F.conv1d,), lambda op, x: op(x, KERNEL[..., 0])),
    ((F.conv2d,), lambda op, x: op(x[:, :, None].expand(-1, -1, 4, -1), KERNEL)),
    ((F.conv3d,), lambda op, x: op(x[:, :, None, None].expand(-1, -1, 2, 2, -1), KERNEL[:, :, None])),
    (names.SOFTMAX, lambda op, x: x * op(x, -1)),
    (names.LAYER_NORM + names.RMS_NORM, lambda op, x: op(x, (4,))),
    (names.BATCH_NORM, lambda op, x: op(x, w, w)),
    (names.DROPOUT, lambda op, x: op(x, 0.5, False)),
    (names.ATTENTION, lambda op, x: op(x, y, x)),
    (names.GETITEM, lambda op, x: op(x, (slice(None), 0))),
    ((F.multi_head_attention_forward,), lambda op, x: op(x, x, x, *PROJECTION, training=False, need_weights=False)[0]),
    ((torch.einsum,), lambda op, x: op("bij,bjk->bik", x, y)),
    (names.named("baddbmm"), lambda op, x: op(x, x, y)),
    (names.named("addmm"), lambda op, x: op(w, x[0], y[0]) if op is torch.addmm else op(x[0], x[0], y[0])),
    (names.named("mean", "sum"), lambda op, x: op(x, 1)),
    (names.named("interpolate"), lambda op, x: op(x, 2)),
    (names.named("avg_pool1d", "adaptive_avg_pool1d"), lambda op, x: op(x, 2)),
    (names.named("avg_pool2d", "adaptive_avg_pool2d"), lambda op, x: op(x[:, None], 2)),
    (names.NORMALIZE, lambda op, x: op(x)),
    ((Tensor.__rtruediv__,), lambda op, x: x * op(x * x + 1, 2)),
    (names.NORMALISERS, lambda op, x: x * op(x * x + 1)),
    (names.POW, lambda op, x: op(x) if op.__name__ == "square" else op(x, 2)),
    (names.ELEMENTWISE + names.NEGATION, lambda op, x: op(x)),
]
STRUCTURE = {
    **dict.fromkeys(("reshape", "view"), (2, 16)),
    **dict.fromkeys(("view_as", "expand_as"), (y,)),
    **dict.fromkeys(("flatten", "squeeze", "unsqueeze", "unbind"), (1,)),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "movedim", "moveaxis"), (1, 2)),
    **dict.fromkeys(("expand", "broadcast_to"), ((2, 4, 4),)),
    **dict.fromkeys(("repeat", "tile"), ((1, 1, 2),)),
    **dict.fromkeys(("chunk", "tensor_split"), (2, 1)),
    **dict.fromkeys(("tril", "triu", "ravel", "contiguous", "clone", "cpu", "__get__", "requires_grad_"), ()),
    "double": (),
    **{"unflatten": (1, (2, 2)), "permute": ((2, 0, 1),), "flip": ((1,),), "roll": (1,), "split": (2, 1)},
    **{"repeat_interleave": (2,), "pad": ((0, 1),), "unfold": (1, 2, 1), "narrow": (1, 0, 2), "select": (1, 0)},
    **{"index_select": (1, rows), "gather": (1, torch.zeros(2, 1, 4).long()), "masked_fill": (HALF, 0.0)},
    **{"take_along_dim": (torch.zeros(2, 1, 4).long(), 1), "to": (torch.float64,), "type": (torch.float64,)},
    **{"type_as": (y,), "pixel_unshuffle": (2,)},
}


def written(op, x):
    z = y.clone()
    z[:, 0] = x[:, 1]
    return z


SPECIAL = {
    **dict.fromkeys(("cat", "concat", "concatenate", "stack", "hstack", "vstack"), lambda op, x: op([x, y])),
    **dict.fromkeys(("float", "half", "bfloat16"), lambda op, x: op(x).double()),
    "where": lambda op, x: op(HALF, x, y) if op is torch.where else op(x, HALF, y),
    "__setitem__": written,
    "__get__": lambda op, x: op(x) if op == Tensor.mT.__get__ else op(x[0]),
    "t": lambda op, x: op(x[0]),
    "fold": lambda op, x: op(F.unfold(x[:, None], 2), 4, 2),
}


def structural(op, x):
    """A change of shape, of every kind."""
    name = op.__name__
    if name in SPECIAL:
        return SPECIAL[name](op, x)
    if op is F.unfold:
        return op(x[:, None], 2)
    return op(x, (2, 16)) if op is torch.reshape else op(x, *STRUCTURE[name])


def call(op, x):
    """A sample call of any operation with a row, as one tensor."""
    for group, how in GROUPS:
        if op in group:
            return how(op, x)
    out = structural(op, x)
    return out if isinstance(out, Tensor) else torch.cat(list(out), dim=-1)


@pytest.mark.filterwarnings("ignore")  # some aliases are deprecated
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_row_gives_what_its_operation_gives(preset):
    for op in preset.keys() - {branch, Tensor.cuda}:
        value, (R,) = pulled(preset, lambda x, op=op: call(op, x), x)
        expected = call(op, x.clone()).detach()
        assert value.shape == expected.shape, op
        narrow = op.__name__ in ("float", "half", "bfloat16")
        torch.testing.assert_close(value, expected, **({"rtol": 0.01, "atol": 0.01} if narrow else {}), msg=str(op))
        assert R.isfinite().all(), op
        assert R.any(), op


def test_every_preset_holds_the_structural_rows():
    assert all(set(BASE) <= set(preset) for preset in PRESETS.values())


def test_no_operation_is_in_two_groups():
    groups = [g for name, g in vars(names).items() if name.isupper() and isinstance(g, tuple) and name != "SQUARE"]
    found = [op for group in groups for op in dict.fromkeys(group)]
    assert len(found) == len(set(found))


def test_rule_sets_have_names():
    assert rule_set("published") is LRP_PUBLISHED
    assert rule_set("conservative") is LRP_CONSERVATIVE
    with pytest.raises(UnknownName, match="no rule set 'publised'; did you mean 'published'"):
        rule_set("publised")
