"""Attention in the open gives what PyTorch's fused one gives."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gradtoken.attention import MASKED
from gradtoken.lrp.attention import attention

N, M, D = 5, 7, 3


def drawn(*shape: int) -> Tensor:
    return torch.randn(2, *shape, dtype=torch.float64)


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("masked", ["no", "bool", "numbers", "causal"])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
def test_it_is_that_of_pytorch(heads, masked, scale):
    q, k, v = drawn(heads[0], N, D), drawn(heads[1], M, D), drawn(heads[1], M, D)
    seen = torch.rand(2, 1, N, M) > 0.3
    seen[..., 0] = True
    mask = {"bool": seen, "numbers": drawn(1, N, M)}.get(masked)
    options = {"attn_mask": mask, "is_causal": masked == "causal", "scale": scale, "enable_gqa": heads[0] != heads[1]}
    torch.testing.assert_close(attention(q, k, v, **options), F.scaled_dot_product_attention(q, k, v, **options))


def test_one_head_stays_one_unless_it_is_shared():
    q, k, v = drawn(4, N, D), drawn(1, M, D), drawn(1, M, D)
    torch.testing.assert_close(attention(q, k, v), attention(q, k.expand(2, 4, M, D), v.expand(2, 4, M, D)))
    with pytest.raises(RuntimeError, match="must match the size"):
        attention(q, drawn(2, M, D), drawn(2, M, D))


def test_hidden_keys_have_a_number_that_rules_can_divide_by():
    q, k = drawn(2, N, D), drawn(2, M, D)
    v = torch.eye(M, dtype=torch.float64).expand(2, 2, M, M)
    hidden = torch.full((N, M), float("-inf")).index_fill(1, torch.tensor([0]), 0.0)
    for mask in (hidden, hidden == 0, hidden.clamp(min=MASKED)):
        A = attention(q, k, v, mask)
        assert A.isfinite().all()
        assert (A[..., 0] == 1).all()
