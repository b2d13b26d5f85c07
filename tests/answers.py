"""Tiny models of LLaVA's kind with random weights, saved with real processors, so that `load` reads them."""

from pathlib import Path

import pytest
from torch import nn

from tests import tokenizers
from tests.zoo import shaken

SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
LENGTH = 64
KINDS = {"Llava": {}, "Llava, class token": {"vision_feature_select_strategy": "full"}, "VipLlava": {}}


def tokenizer():
    made = tokenizers.KINDS["byte fallback"](LENGTH)
    made.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return made


def network(kind: str) -> nn.Module:
    """Patches of 8 x 8 pixels, their tokens among those of a Llama of three blocks with grouped heads."""
    t, made = pytest.importorskip("transformers"), tokenizer()
    vision = t.CLIPVisionConfig(**SIZE, image_size=32, patch_size=8)
    ends = {"bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": LENGTH}
    text = t.LlamaConfig(**SIZE, **ends, vocab_size=len(made), num_key_value_heads=1)
    family = kind.split(",")[0]
    layers = {"vision_feature_layers": [-2, -1]} if family == "VipLlava" else {}
    number = {"image_token_id": made.convert_tokens_to_ids("<image>")}
    config = getattr(t, f"{family}Config")(vision_config=vision, text_config=text, **number, **layers, **KINDS[kind])
    return shaken(getattr(t, f"{family}ForConditionalGeneration")(config))


def processor():
    t = pytest.importorskip("transformers")
    return t.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def saved(kind: str, folder: Path) -> Path:
    for part in (network(kind), tokenizer(), processor()):
        part.save_pretrained(folder)
    return folder
