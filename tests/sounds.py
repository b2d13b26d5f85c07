"""Sounds that are made here, and tiny classifiers of them with random weights, saved as `load` reads them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.zoo import shaken

RATE = 16_000
NAMES = ["dog", "bell", "rain", "speech", "silence"]
SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
KEPT = {"num_labels": 5, "id2label": dict(enumerate(NAMES)), "label2id": {n: i for i, n in enumerate(NAMES)}}
CONVOLVED = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
WAVES = SIZE | KEPT | CONVOLVED | {"classifier_proj_size": 8, "vocab_size": 10}


def tone(seconds: float = 0.6, hertz: float = 1000.0, rate: int = RATE, begin: float = 0.0, end: float = 9.0):
    """A tone from `begin` to `end` over faint noise, float32."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 1e-3, len(t))
    return (0.4 * np.sin(2 * np.pi * hertz * t) * ((t >= begin) & (t < end)) + noise).astype(np.float32)


def ast(bins: int = 36, frames: int = 76, **options):
    """Patches of 16 x 16, every 10 values: 3 x 7 of them by default."""
    t = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = t.ASTConfig(**SIZE, **KEPT, num_mel_bins=bins, max_length=frames, **options)
    return shaken(t.ASTForAudioClassification(config)), t.ASTFeatureExtractor(num_mel_bins=bins, max_length=frames)


def whisper():
    """A second in 100 frames, of which two make a token."""
    t = pytest.importorskip("transformers")
    torch.manual_seed(0)
    size = {"d_model": 16, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "num_mel_bins": 16}
    rest = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "vocab_size": 20}
    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
    config = t.WhisperConfig(**size, **rest, **ends, **KEPT, max_source_positions=50, classifier_proj_size=8)
    return shaken(t.WhisperForAudioClassification(config)), t.WhisperFeatureExtractor(feature_size=16, chunk_length=1)


def waves(family: str = "Wav2Vec2", **options):
    """Seven convolutions make a token of 400 samples, every 320."""
    t = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(t, f"{family}Config")(**WAVES | options)
    return shaken(getattr(t, f"{family}ForSequenceClassification")(config)), t.Wav2Vec2FeatureExtractor()


CLASSIFIERS = {
    "AST": ast,
    "Whisper": whisper,
    "wav2vec 2.0": waves,
    "wav2vec 2.0 large": lambda: waves(feat_extract_norm="layer", do_stable_layer_norm=True),
    "HuBERT": lambda: waves("Hubert"),
    "WavLM": lambda: waves("WavLM"),
    "UniSpeech-SAT": lambda: waves("UniSpeechSat"),
}


def saved(folder: Path, made) -> Path:
    """The network and its feature extractor as `save_pretrained` writes them."""
    for part in made:
        part.save_pretrained(folder)
    return folder
