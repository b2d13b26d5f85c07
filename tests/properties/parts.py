"""Transformers put together from parts, with random weights in float64, and how they are drawn."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.zoo import CLASSES, shaken

PATCH = 4
Readout = Literal["class token", "distilled", "mean", "mean of all", "attention pooling"]
Spelling = Literal["sdpa", "matmul", "scaled query", "einsum", "multihead"]
Norm = Literal["pre", "post", "none"]


@dataclass(frozen=True)
class Design:
    """rows, columns: of the patches. groups: key heads. joined: q, k, v from one projection. bias: of each offset."""

    rows: int = 3
    columns: int = 3
    depth: int = 3
    heads: int = 2
    groups: int = 2
    width: int = 4
    registers: int = 0
    readout: Readout = "class token"
    spelling: Spelling = "sdpa"
    norm: Norm = "pre"
    joined: bool = True
    qkv_bias: bool = True
    qk_norm: bool = False
    relative_bias: bool = False
    layer_scale: bool = False
    mlp: bool = True
    seed: int = 0

    @property
    def prefix(self) -> int:
        """Tokens before the patches."""
        return {"class token": 1, "distilled": 2}.get(self.readout, 0) + self.registers

    @property
    def tokens(self) -> int:
        """Patches."""
        return self.rows * self.columns

    @property
    def channels(self) -> int:
        return self.heads * self.width

    def build(self) -> nn.Module:
        """The network, the same each time."""
        torch.manual_seed(self.seed)
        return shaken(Network(self), self.seed).double()

    def twin(self) -> nn.Module:
        """The same weights with fused attention, which the naive reference opens itself."""
        net = replace(self, spelling="sdpa").build()
        net.load_state_dict(self.build().state_dict())
        return net

    def pictures(self, batch: int = 2) -> Tensor:
        shape = batch, 3, PATCH * self.rows, PATCH * self.columns
        return torch.randn(shape, generator=torch.Generator().manual_seed(self.seed + 1)).double()


class Attention(nn.Module):
    """Attention of `asks` (B, M, C) to tokens (B, N, C). -> (B, M, C)"""

    def __init__(self, d: Design, relative: bool = False) -> None:
        super().__init__()
        self.d = d
        sizes = [d.channels, d.groups * d.width, d.groups * d.width]
        self.sizes = sizes
        parts = [sum(sizes)] if d.joined else sizes
        self.qkv = nn.ModuleList(nn.Linear(d.channels, size, bias=d.qkv_bias) for size in parts)
        self.norms = nn.ModuleList(nn.LayerNorm(d.width) if d.qk_norm else nn.Identity() for _ in range(2))
        total = d.prefix + d.tokens
        self.bias = nn.Parameter(torch.zeros(d.heads, total, total)) if relative else None
        self.out = nn.Linear(d.channels, d.channels)

    def forward(self, x: Tensor, asks: Tensor | None = None) -> Tensor:
        if self.d.spelling == "multihead":
            return self.multihead(x, x if asks is None else asks)
        q, k, v = (t.unflatten(-1, (-1, self.d.width)).transpose(1, 2) for t in self.projected(x, asks))
        Z = self.attended(self.norms[0](q), self.norms[1](k), v)
        return self.out(Z.transpose(1, 2).flatten(-2))

    def projected(self, x: Tensor, asks: Tensor | None) -> list[Tensor]:
        if self.d.joined and asks is None:
            return list(self.qkv[0](x).split(self.sizes, dim=-1))
        asks = x if asks is None else asks
        return [F.linear(t, W, b) for t, (W, b) in zip((asks, x, x), self.weights(), strict=True)]

    def weights(self) -> list[tuple[Tensor, Tensor | None]]:
        """Weight and bias of q, k and v."""
        if not self.d.joined:
            return [(layer.weight, layer.bias) for layer in self.qkv]
        W, b = self.qkv[0].weight.split(self.sizes), self.qkv[0].bias
        return list(zip(W, b.split(self.sizes) if b is not None else [None] * 3, strict=True))

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """A v, spelled as the design says. (B, H, N, D)"""
        spelling, scale, bias = self.d.spelling, q.shape[-1] ** -0.5, self.bias
        if spelling == "sdpa":
            return F.scaled_dot_product_attention(q, k, v, bias, enable_gqa=self.d.groups < self.d.heads)
        k, v = (t.repeat_interleave(self.d.heads // self.d.groups, dim=1) for t in (k, v))
        if spelling == "einsum":
            O = torch.einsum("bhid,bhjd->bhij", q, k) * scale
            A = (O if bias is None else O + bias).softmax(dim=-1)
            return torch.einsum("bhij,bhjd->bhid", A, v)
        O = (q * scale) @ k.transpose(-2, -1) if spelling == "scaled query" else q @ k.transpose(-2, -1) / (1 / scale)
        return (O if bias is None else O + bias).softmax(dim=-1) @ v

    def multihead(self, x: Tensor, asks: Tensor) -> Tensor:
        """PyTorch's own function, tokens first."""
        W, b = zip(*self.weights(), strict=True)
        bias = None if b[0] is None else torch.cat(b)
        first = [t.transpose(0, 1) for t in (asks, x, x)]
        no, out = (None, None, False, 0.0), (self.out.weight, self.out.bias)
        mask = None if self.bias is None else self.bias.repeat(len(x), 1, 1)
        made, _ = F.multi_head_attention_forward(
            *first,
            self.d.channels,
            self.d.heads,
            torch.cat(W),
            bias,
            *no,
            *out,
            False,
            need_weights=False,
            attn_mask=mask,
        )
        return made.transpose(0, 1)


class Block(nn.Module):
    """Attention and a small network, each added to what it read. (B, N, C) -> (B, N, C)"""

    def __init__(self, d: Design) -> None:
        super().__init__()
        C = d.channels
        self.kind = d.norm
        self.attention = Attention(d, d.relative_bias)
        self.mlp = nn.Sequential(nn.Linear(C, 2 * C), nn.GELU(), nn.Linear(2 * C, C)) if d.mlp else None
        self.norms = nn.ModuleList(nn.Identity() if d.norm == "none" else nn.LayerNorm(C) for _ in range(2))
        self.scales = nn.ParameterList(nn.Parameter(torch.full((C,), 0.5)) for _ in range(2)) if d.layer_scale else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.added(x, self.attention, 0)
        return x if self.mlp is None else self.added(x, self.mlp, 1)

    def added(self, x: Tensor, branch: nn.Module, i: int) -> Tensor:
        """Give x + branch(norm(x)), or norm(x + branch(x))."""
        y = branch(self.norms[i](x) if self.kind == "pre" else x)
        x = x + (y if self.scales is None else y * self.scales[i])
        return self.norms[i](x) if self.kind == "post" else x


class Network(nn.Module):
    """Pictures (B, 3, H, W) -> logits (B, 5)."""

    def __init__(self, d: Design) -> None:
        super().__init__()
        self.d = d
        self.patches = nn.Conv2d(3, d.channels, PATCH, PATCH)
        self.first = nn.Parameter(torch.zeros(1, d.prefix, d.channels))
        self.place = nn.Parameter(torch.zeros(1, d.prefix + d.tokens, d.channels))
        self.blocks = nn.ModuleList(Block(d) for _ in range(d.depth))
        self.norm = nn.LayerNorm(d.channels) if d.norm == "pre" else nn.Identity()
        self.probe = nn.Parameter(torch.zeros(1, 1, d.channels)) if d.readout == "attention pooling" else None
        self.pool = Attention(d) if self.probe is not None else None
        self.head = nn.Linear(d.channels, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.patches(pictures).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1) + self.place
        for block in self.blocks:
            x = block(x)
        return self.head(self.read(self.norm(x)))

    def read(self, x: Tensor) -> Tensor:
        """What the head reads. (B, N, C) -> (B, C)"""
        if self.pool is not None:
            return self.pool(x, self.probe.expand(len(x), -1, -1))[:, 0]
        if self.d.readout == "class token":
            return x[:, 0]
        if self.d.readout == "distilled":
            return (x[:, 0] + x[:, 1]) / 2
        return x[:, self.d.prefix if self.d.readout == "mean" else 0 :].mean(dim=1)


@st.composite
def designs(draw: st.DrawFn, **fixed: object) -> Design:
    """Any design whose patches can be told from the tokens before them."""
    heads = draw(st.integers(1, 4))
    d = Design(
        rows=draw(st.integers(1, 4)),
        columns=draw(st.integers(2, 5)),
        depth=draw(st.integers(1, 4)),
        heads=heads,
        groups=draw(st.sampled_from([n for n in range(1, heads + 1) if heads % n == 0])),
        width=draw(st.sampled_from([3, 4, 5, 8])),
        registers=draw(st.integers(0, 2)),
        readout=draw(st.sampled_from(Readout.__args__)),
        spelling=draw(st.sampled_from(Spelling.__args__)),
        norm=draw(st.sampled_from(Norm.__args__)),
        **{
            name: draw(st.booleans())
            for name in ("joined", "qkv_bias", "qk_norm", "relative_bias", "layer_scale", "mlp")
        },
        seed=draw(st.integers(0, 3)),
    )
    d = replace(d, **fixed)
    if d.spelling == "multihead":  # which has neither
        d = replace(d, groups=d.heads, qk_norm=False)
    return d if d.prefix < d.tokens else replace(d, rows=4)
