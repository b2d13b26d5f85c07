"""Tiny models of pictures and captions with random weights, saved with real processors, so that `load` reads them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.zoo import shaken

SENTENCES = [
    "a photo of a dog on the grass, and a cat. an unforgettable giraffe isn't here!",
    "the dog, the cat, the giraffe; a drawing of grass",
]
SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
VISION = {**SIZE, "image_size": 16, "patch_size": 4}
LENGTH = 16


def picture(seed: int = 0, size: tuple[int, int] = (24, 20)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return Image.fromarray(values)


def clip_tokenizer():
    """CLIP's own: byte-level BPE whose words end with </w>, lower case, the end token is the padding."""
    t, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    learnt = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>"))
    learnt.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=120, end_of_word_suffix="</w>", show_progress=False)
    learnt.train_from_iterator(SENTENCES, trainer)
    model = json.loads(learnt.to_str())["model"]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    pieces = dict.fromkeys([*alphabet, *(letter + "</w>" for letter in alphabet), *model["vocab"]])
    pieces |= dict.fromkeys(["<|startoftext|>", "<|endoftext|>"])
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    return t.CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)


def clip() -> tuple[nn.Module, object, object]:
    """Network, tokenizer and image processor."""
    t = pytest.importorskip("transformers")
    tokenizer = clip_tokenizer()
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {**SIZE, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": LENGTH, "pad_token_id": 1}
    config = t.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    return shaken(t.CLIPModel(config)), tokenizer, t.CLIPImageProcessorPil(**size)


def siglip(tokenizer=None) -> tuple[nn.Module, object, object]:
    t = pytest.importorskip("transformers")
    tokenizer = tokenizer or unigram()
    text = {**SIZE, "vocab_size": len(tokenizer), "max_position_embeddings": LENGTH, "projection_size": 16}
    config = t.SiglipConfig(text_config=text, vision_config=VISION)
    return shaken(t.SiglipModel(config)), tokenizer, t.SiglipImageProcessorPil(size={"height": 16, "width": 16})


def unigram():
    """SigLIP 2's kind: fast, SentencePiece's pieces, an end token that is the padding too, no mask."""
    t, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=90, special_tokens=["</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(SENTENCES, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    names = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    inputs = ["input_ids"]
    return t.PreTrainedTokenizerFast(tokenizer_object=made, **names, model_max_length=LENGTH, model_input_names=inputs)


def slow(folder: Path):
    """SigLIP's own: SentencePiece without places, lower case, no signs."""
    t, trained = pytest.importorskip("transformers"), pytest.importorskip("sentencepiece")
    folder.mkdir(exist_ok=True)
    with open(folder / "learnt.model", "wb") as file:
        trained.SentencePieceTrainer.train(
            sentence_iterator=iter([s.lower() for s in SENTENCES]),
            model_writer=file,
            vocab_size=60,
            minloglevel=2,
            hard_vocab_limit=False,
            model_type="unigram",
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            pad_id=0,
        )
    return t.SiglipTokenizer(str(folder / "learnt.model"), model_max_length=LENGTH, model_input_names=["input_ids"])


def saved(parts: tuple[nn.Module, object, object], folder: Path) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder


def open_clip_files(folder: Path, **changes) -> tuple[nn.Module, str, Path]:
    """An architecture that open_clip then knows by the name returned, its network and its weights file."""
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    config = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 16, "layers": 3, "width": 16, "head_width": 8, "patch_size": 4},
        "text_cfg": {"context_length": LENGTH, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 3},
    }
    config |= changes
    name = folder.name + "-nano"
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    net = open_clip.create_model(name)
    if hasattr(net, "text_decoder"):
        nn.init.normal_(net.text_decoder.text_projection)  # which open_clip leaves as it finds it
    shaken(net)
    save_file({key: x.contiguous() for key, x in net.state_dict().items()}, folder / "w.safetensors")
    return net, f"open_clip:{name}", folder / "w.safetensors"


def pixels(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(1))
