"""Rollout as users of transformers write it: the model's own attentions, multiplied; a peer of `benchmarks.peers`."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gradtoken.models._torchvision import ensure_torchvision

WIDTHS = {"tiny": (192, 3), "base": (768, 12)}


def transformers_network(name: str) -> nn.Module:
    """A ViT/16 of transformers, random weights."""
    ensure_torchvision()
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    width, heads = WIDTHS[name]
    config = ViTConfig(hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width, num_labels=1000)
    return ViTForImageClassification(config).eval()


@contextlib.contextmanager
def transformers_rollout(net: Any) -> Iterator[Callable[[Tensor], Tensor]]:
    """Row of (I + A_L)/2 ... (I + A_1)/2 from `output_attentions`."""
    net.set_attn_implementation("eager")

    @torch.no_grad()
    def explain(x: Tensor) -> Tensor:
        attentions = net(pixel_values=x, output_attentions=True).attentions
        I = torch.eye(attentions[0].shape[-1])
        R = I.expand(len(x), -1, -1)
        for A in attentions:
            R = (A.mean(dim=1) + I) / 2 @ R
        return R[:, 0, 1:].unflatten(1, (14, 14))

    yield explain
