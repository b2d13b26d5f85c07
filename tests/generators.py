"""Tiny causal language models of many families, random weights, each with a tokenizer of its kind."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests import tokenizers
from tests.zoo import shaken

LENGTH = 48
SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32}
GROUPED = SIZE | {"num_key_value_heads": 2, "max_position_embeddings": LENGTH, "bos_token_id": 0, "eos_token_id": 2}
ENDS = {"bos_token_id": 0, "eos_token_id": 2}
BYTES, PIECES = "byte-level BPE, no ends", "byte fallback"
GEMMA2 = {"head_dim": 4, "sliding_window": 6}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {  # tokenizer, options of the configuration
    "GPT2": (BYTES, {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": LENGTH} | ENDS),
    "Llama": (PIECES, GROUPED),
    "Qwen2": (BYTES, GROUPED),
    "Qwen3": (BYTES, GROUPED | {"head_dim": 4}),
    "Mistral": (PIECES, GROUPED | {"sliding_window": 6}),
    "Gemma3Text": (PIECES, GROUPED | {"head_dim": 4, "sliding_window": 6}),
    "OPT": (
        BYTES,
        {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "ffn_dim": 32}
        | {"word_embed_proj_dim": 16, "max_position_embeddings": LENGTH}
        | ENDS,
    ),
}
BY_HAND = {  # that write their attention out
    "Gemma2": (PIECES, GROUPED | GEMMA2),
    "Bloom": (BYTES, {"hidden_size": 16, "n_layer": 3, "n_head": 4} | ENDS),
}


def network(family: str, families: Any = None) -> nn.Module:
    t = pytest.importorskip("transformers")
    kind, options = (families or FAMILIES)[family]
    config = getattr(t, f"{family}Config")(vocab_size=len(tokenizers.KINDS[kind](LENGTH)), **options)
    return shaken(t.AutoModelForCausalLM.from_config(config))


def saved(family: str, folder: Path) -> Path:
    """A folder as of the hub."""
    network(family).double().save_pretrained(folder)
    tokenizers.KINDS[FAMILIES[family][0]](LENGTH).save_pretrained(folder)
    return folder
