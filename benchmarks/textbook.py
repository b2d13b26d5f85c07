"""GradToken as its paper writes it: every attention matrix formed and kept, one backward pass through the model."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def textbook(net: nn.Module, x: Tensor, target: int) -> Tensor:
    """Relevance of the patches of a timm ViT built without fused attention, batch of one. (1, S)

    Keeps the model's own A = softmax(QK') of every block and the whole graph, as autograd saves it; dA is not kept.
    """
    A: list[Tensor] = []
    last: list[Tensor] = []
    blocks = net.blocks
    hooks = [block.attn.attn_drop.register_forward_hook(lambda _, __, out: A.append(out)) for block in blocks]
    hooks += [norm.register_forward_hook(keep(last)) for norm in (blocks[-1].attn.q_norm, blocks[-1].attn.k_norm)]
    try:
        net(x)[0, target].backward()
    finally:
        for hook in hooks:
            hook.remove()
    q, k = last
    assert q.grad is not None
    with torch.no_grad():
        M = (k @ q.grad[:, :, :1].mT)[:, :, 1:]  # eq. 8 (1, H, S, 1)
        Abar = sum(a.mean(dim=1, keepdim=True) for a in A[:-1]) / len(A)  # eq. 14
        R = (Abar[:, :, 1:, 1:] @ M).clamp(min=0).mean(dim=1)[..., 0]  # eq. 16, 18
    net.zero_grad(set_to_none=True)
    return R


def keep(where: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """A forward hook that makes its output a node with a gradient."""

    def hook(_: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> None:
        out.retain_grad()
        where.append(out)

    return hook
