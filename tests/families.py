"""Tiny sequence classifiers of every family of transformers, random weights, and a T5 encoder with a head."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

from tests import texts
from tests.zoo import shaken

SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
KEPT = {"vocab_size": len(texts.VOCAB), "pad_token_id": 0, "num_labels": 2}
PLACES = {"max_position_embeddings": texts.LENGTH}


def classifier(family: str, options: dict[str, Any]) -> nn.Module:
    t = pytest.importorskip("transformers")
    config = getattr(t, f"{family}Config")(**KEPT, **options)
    return shaken(getattr(t, f"{family}ForSequenceClassification")(config)).double()


class T5Encoder(nn.Module):
    """The mean of what T5's encoder says of the tokens that are no padding, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        t = pytest.importorskip("transformers")
        size = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2, "vocab_size": len(texts.VOCAB)}
        self.encoder = t.T5EncoderModel(t.T5Config(**size, pad_token_id=0))
        self.head = nn.Linear(16, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        seen = attention_mask[..., None].to(self.head.weight)
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.head((states * seen).sum(dim=1) / seen.sum(dim=1))


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "BERT": lambda: classifier("Bert", SIZE | PLACES),
    "RoBERTa": lambda: classifier("Roberta", SIZE | {"max_position_embeddings": texts.LENGTH + 1}),
    "DistilBERT": lambda: classifier("DistilBert", PLACES | {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}),
    "ELECTRA": lambda: classifier("Electra", SIZE | PLACES | {"embedding_size": 16}),
    "ALBERT": lambda: classifier("Albert", SIZE | PLACES | {"embedding_size": 8}),
    "ModernBERT": lambda: classifier(
        "ModernBert", SIZE | PLACES | {"global_attn_every_n_layers": 1, "bos_token_id": 2, "eos_token_id": 3}
    ),
    "DeBERTa": lambda: classifier(
        "DebertaV2",
        SIZE | PLACES | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "pooler_hidden_size": 16},
    ),
    "GPT-2": lambda: classifier("GPT2", {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": texts.LENGTH}),
    "Llama": lambda: classifier("Llama", SIZE | PLACES | {"num_attention_heads": 4, "num_key_value_heads": 2}),
    "T5 encoder": lambda: shaken(T5Encoder()).double(),
}
