"""The linear layer of the tail: the usual gradient, at the price of the rows that are read."""

import pytest
import torch
import torch.nn.functional as F
from benchmarks.meter import flops
from torch.utils.checkpoint import checkpoint

from gradtoken import attribute
from gradtoken.rowwise import rowwise_linear
from tests import zoo


@pytest.mark.parametrize("read", [[], [0], [0, 3], [0, 1, 2, 3]])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (5, 2, 4, 6)])
def test_the_gradient_is_that_of_the_usual_layer(read, bias, shape):
    torch.manual_seed(0)
    x, W, b = torch.randn(shape), torch.randn(3, 6), torch.randn(3) if bias else None
    g = torch.zeros(*shape[:-1], 3)
    g[..., read, :] = torch.randn(*shape[:-2], len(read), 3)
    found = []
    for layer in (F.linear, rowwise_linear):
        leaf = x.clone().requires_grad_()
        y = layer(leaf, W, b)
        found.append((y, *torch.autograd.grad(y, leaf, g)))
    torch.testing.assert_close(found[1], found[0])


def test_autocast_leaves_the_input_its_type():
    x = torch.randn(2, 5, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = rowwise_linear(x, torch.randn(3, 6), None)
    (dx,) = torch.autograd.grad(y[:, 0].sum(), x)
    assert (y.dtype, dx.dtype) == (torch.bfloat16, torch.float32)
    assert not dx[:, 1:].any()
    assert dx[:, 0].all()


def test_a_further_class_costs_no_pass_through_the_last_block():
    """A block's backward pass is as much work again as the block."""
    net = zoo.timm_model(depth=4, embed_dim=64, mlp_ratio=4).eval()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        block = flops(lambda: net(x)) / 4

    def work(classes):
        explain = lambda: attribute(net, x, [list(range(classes))] * len(x), allow_blank=True, propagation="none")  # noqa: E731
        explain()
        return flops(explain)

    assert work(3) - work(2) < 0.3 * block


def test_a_tail_that_is_checkpointed_keeps_its_own_layers():
    net = zoo.timm_model().eval()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = attribute(net, x, 1, allow_blank=True)
    mlp = net.blocks[-1].mlp
    usual = mlp.forward
    mlp.forward = lambda h: checkpoint(usual, h, use_reentrant=False)
    for _ in range(2):
        torch.testing.assert_close(attribute(net, x, 1, allow_blank=True), expected)


def test_the_first_call_on_a_model_gives_the_numbers_of_the_later_ones():
    """Workers each learn the model anew, and their files must be the same bytes."""
    net = zoo.timm_model(embed_dim=96).eval()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    first, later = (attribute(net, x, [[0, 2]] * 2, allow_blank=True) for _ in range(2))
    assert torch.equal(first, later)
