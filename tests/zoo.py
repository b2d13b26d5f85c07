"""Tiny models with random weights, one for each way of reading tokens and of computing attention."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

CLASSES = 5
TEXT = {
    "input_ids": torch.tensor([[1, 5, 6, 7, 8, 2], [1, 9, 4, 2, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]),
}


class Subject(NamedTuple):
    """A model, the layout it is known to have, and the picture size it takes."""

    build: Callable[[], nn.Module]
    first: int
    grid: tuple[int, int]
    size: tuple[int, int] = (16, 16)


def shaken(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights large enough that attention is far from uniform, zero-initialised ones included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return net.eval()


def timm_model(family: str = "vision_transformer.VisionTransformer", **options: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    size = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 4, "num_heads": 2, "num_classes": CLASSES}
    module, name = family.split(".")
    return shaken(getattr(getattr(timm.models, module), name)(**{**size, **options}))


def by_hand(build: Callable[[], nn.Module]) -> nn.Module:
    """The timm model with its attention written out instead of fused."""
    timm = pytest.importorskip("timm")
    timm.layers.set_fused_attn(False)
    try:
        return build()
    finally:
        timm.layers.set_fused_attn(True)


def torchvision_vit() -> nn.Module:
    models = pytest.importorskip("torchvision.models")
    return shaken(models.VisionTransformer(16, 4, 4, 2, hidden_dim=16, mlp_dim=32, num_classes=CLASSES))


def transformers_vit(attention: str = "sdpa") -> nn.Module:
    t = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    config = t.ViTConfig(**size, image_size=16, patch_size=4, num_labels=CLASSES, attn_implementation=attention)
    return shaken(t.ViTForImageClassification(config))


def bert(attention: str = "sdpa") -> nn.Module:
    t = pytest.importorskip("transformers")
    size = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    options = {"intermediate_size": 32, "max_position_embeddings": 12, "num_labels": CLASSES}
    return shaken(t.BertForSequenceClassification(t.BertConfig(**size, **options, attn_implementation=attention)))


def llama() -> nn.Module:
    """Causal, with grouped heads, reading its last token."""
    t = pytest.importorskip("transformers")
    size = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 3, "intermediate_size": 32, "pad_token_id": 0}
    config = t.LlamaConfig(**size, num_attention_heads=4, num_key_value_heads=2, num_labels=CLASSES)
    return shaken(t.LlamaForSequenceClassification(config))


class Encoder(nn.Module):
    """PyTorch's own encoder on embedded tokens, pooled by the mean. (B, N, 16) -> (B, 5)"""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, tokens: Tensor, src_key_padding_mask: Tensor | None = None) -> Tensor:
        return self.head(self.encoder(tokens, src_key_padding_mask=src_key_padding_mask).mean(dim=1))


PICTURES = {
    "class token": Subject(timm_model, 1, (4, 4)),
    "distilled": Subject(lambda: timm_model("deit.VisionTransformerDistilled"), 2, (4, 4)),
    "registers, mean": Subject(
        lambda: timm_model(class_token=False, reg_tokens=4, global_pool="avg", qk_norm=True), 4, (4, 4)
    ),
    "nine prefix tokens": Subject(lambda: timm_model(reg_tokens=8), 9, (4, 4)),
    "no prefix, mean": Subject(lambda: timm_model(class_token=False, global_pool="avg"), 0, (4, 4)),
    "attention pooling": Subject(lambda: timm_model(class_token=False, global_pool="map"), 0, (4, 4)),
    "BEiT": Subject(lambda: timm_model("beit.Beit", use_rel_pos_bias=True, init_values=0.1), 1, (4, 4)),
    "EVA, rotary": Subject(lambda: timm_model("eva.Eva", use_rot_pos_emb=True), 1, (4, 4)),
    "not square": Subject(lambda: timm_model(img_size=(16, 24)), 1, (4, 6), (16, 24)),
    "one row": Subject(lambda: timm_model(img_size=(4, 24)), 1, (1, 6), (4, 24)),
    "torchvision": Subject(torchvision_vit, 1, (4, 4)),
    "transformers": Subject(transformers_vit, 1, (4, 4)),
}


def pictures(subject: Subject, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *subject.size, generator=torch.Generator().manual_seed(1))
