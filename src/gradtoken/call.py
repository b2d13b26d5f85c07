"""One attention as a model called it."""

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Call:
    """The raw operands, before they are brought to (B, H, N, D).

    `site` numbers the products that may begin an attention; `q` is the graph node that gradients are taken of.
    `q_factor`, `k_factor`: numbers that q and k had already been multiplied by. `weights`, `normaliser`: see
    `Attention`.
    """

    site: int
    q: Tensor
    k: Tensor
    scale: float | None = None
    mask: Tensor | None = None
    causal: bool = False
    weights: Tensor | None = None
    q_factor: float = 1.0
    k_factor: float = 1.0
    normaliser: Tensor | None = None


def settled(call: Call) -> Call:
    """A call whose tail is not wanted: q is no node of the graph, q and k hold no more memory than their own."""
    return replace(call, q=apart(call.q.detach()), k=apart(call.k))


def unchanged(call: Call) -> Call:
    """All of a call."""
    return call


def apart(x: Tensor) -> Tensor:
    """X without what shares its storage: q and k are often slices of one tensor that holds v too."""
    return x.clone() if x.untyped_storage().nbytes() > x.numel() * x.element_size() else x
