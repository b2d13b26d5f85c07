"""Small models of texts, sounds, films, captions and more for `support_matrix.py`, with random weights."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from support_models import Subject, Truth, random, shaken
from torch import Tensor, nn

from gradtoken.models.answers import Answering, Joint
from gradtoken.models.clip import Similarity, Towers
from gradtoken.models.film import Watch
from gradtoken.models.language import NextToken
from gradtoken.models.preprocess import Preprocess
from gradtoken.models.sound import Listen

WORDS = 60
SIZE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
BERT = SIZE | {"vocab_size": WORDS, "max_position_embeddings": 40, "pad_token_id": 0}
GPT = {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 40, "vocab_size": WORDS} | ENDS
LLAMA = SIZE | ENDS | {"vocab_size": WORDS, "num_key_value_heads": 1, "max_position_embeddings": 40}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 3, "num_heads": 2, "vocab_size": WORDS}
LAYERS = {"encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
WIDE = LAYERS | {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
BART = WIDE | ENDS | {"vocab_size": WORDS, "max_position_embeddings": 40}
FIRST, LAST, PLAIN = Truth(prefix=1, reads="token"), Truth(prefix=0, reads="token"), Truth(prefix=0)
TEXTS: dict[str, tuple[dict[str, Any], Truth]] = {  # classifiers of texts: settings, what their code says
    **dict.fromkeys(("Bert", "XLMRoberta", "Electra", "Roberta", "Camembert", "MPNet"), (BERT, FIRST)),
    "DistilBert": ({"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64, "vocab_size": WORDS}, FIRST),
    "Albert": (BERT | {"embedding_size": 16}, FIRST),
    "ModernBert": (BERT | {"global_attn_every_n_layers": 1} | ENDS, FIRST),
    "DebertaV2": (BERT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "pooler_hidden_size": 32}, FIRST),
    "GPT2": (GPT, LAST),
    **dict.fromkeys(("Llama", "Qwen2", "Qwen3", "Mistral"), (LLAMA, LAST)),
    "T5": (T5 | {"decoder_start_token_id": 0, "eos_token_id": 2}, PLAIN),
    "Bart": (BART, PLAIN),
    "FNet": (BERT, PLAIN),
}
CAUSAL: dict[str, dict[str, Any]] = {
    "GPT2": GPT,
    **dict.fromkeys(("Llama", "Qwen2", "Qwen3", "Mistral", "Phi3", "Olmo2", "StableLm"), LLAMA),
    "Gemma2": LLAMA | {"head_dim": 16},
    "Gemma3Text": LLAMA | {"head_dim": 16, "sliding_window": 8},
    "OPT": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "ffn_dim": 64, "vocab_size": WORDS}
    | {"word_embed_proj_dim": 32, "max_position_embeddings": 40},
    "GPTNeoX": BERT,
    "Bloom": {"hidden_size": 32, "n_layer": 3, "n_head": 2, "vocab_size": WORDS},
    "Mamba": {"hidden_size": 32, "num_hidden_layers": 3, "vocab_size": WORDS, "state_size": 4},
}
WAVES = SIZE | {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
WAVES |= {"classifier_proj_size": 8, "vocab_size": 10}
SEEN = SIZE | {"image_size": 64, "patch_size": 8}
FILM = SIZE | {"num_frames": 4, "image_size": 32}


def library() -> Any:
    found = importlib.import_module("transformers")
    found.logging.set_verbosity_error()
    return found


def made(kind: str, config: str, options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    t = library()
    return shaken(getattr(t, kind)(getattr(t, config)(**options)))


def ids(count: int = 12) -> dict[str, Tensor]:
    """Two texts, the second with four tokens of padding."""
    found = torch.randint(3, WORDS, (2, count), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(found)
    mask[1, -4:] = 0
    found[0, -1] = found[1, -5] = ENDS["eos_token_id"]
    return {"input_ids": found * mask, "attention_mask": mask}


def subject(kind: str, name: str, build: Callable[[], nn.Module], inputs: Any, **more: Any) -> Subject:
    truth = more.pop("truth", Truth())
    return Subject(kind, name.split(",")[0], name, build, inputs, lambda _: truth, **more)


def from_texts() -> Iterator[Subject]:
    for name, (options, truth) in TEXTS.items():
        settings = options | {"num_labels": 10} | ({"max_position_embeddings": 43} if "Roberta" in name else {})

        def build(name: str = name, settings: dict[str, Any] = settings) -> nn.Module:
            return made(f"{name}ForSequenceClassification", f"{name}Config", settings)

        yield subject("texts", name, build, ids(), truth=truth)


def from_generators() -> Iterator[Subject]:
    for name, options in CAUSAL.items():

        def build(name: str = name, options: dict[str, Any] = options) -> nn.Module:
            t = library()
            torch.manual_seed(0)
            return NextToken(shaken(t.AutoModelForCausalLM.from_config(getattr(t, f"{name}Config")(**options))))

        yield subject("next words", name, build, ids(), truth=LAST, target=7)


def from_sounds() -> Iterator[Subject]:
    t, noise = library(), torch.Generator
    ast = t.ASTFeatureExtractor(num_mel_bins=64, max_length=96)
    whisper = {"d_model": 32, "encoder_ffn_dim": 64, "num_mel_bins": 16, "max_source_positions": 50, "vocab_size": 20}
    whisper |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
    kinds = {
        "AST": ("ASTForAudioClassification", SIZE | {"num_mel_bins": 64, "max_length": 96}, ast),
        "Whisper": (
            "WhisperForAudioClassification",
            LAYERS | {"decoder_ffn_dim": 64} | whisper | {"classifier_proj_size": 8},
            t.WhisperFeatureExtractor(feature_size=16, chunk_length=1),
        ),
    }
    for name in ("Wav2Vec2", "Hubert", "WavLM", "UniSpeechSat", "Data2VecAudio", "SEW"):
        own = {"conv_dim": (8,) * 13} if name == "SEW" else {}
        kinds[name] = (f"{name}ForSequenceClassification", WAVES | own, t.Wav2Vec2FeatureExtractor())
    for name, (kind, options, extractor) in kinds.items():

        def listen(name: str = name, kind: str = kind, options: Any = options, extractor: Any = extractor) -> Any:
            net = made(kind, f"{name}Config", options | {"num_labels": 10})
            return net, Listen.of(net, extractor)

        def build(listen: Callable[[], Any] = listen) -> nn.Module:
            net, how = listen()
            return how.wrapped(net).eval()

        yield subject("sounds", name, build, listen()[1].noise(noise().manual_seed(1)))


def from_films() -> Iterator[Subject]:
    kinds = {"VideoMAE": {"patch_size": 8}, "Vivit": {"tubelet_size": [2, 8, 8]}, "Timesformer": {"patch_size": 8}}
    for name, options in kinds.items():

        def build(name: str = name, options: Any = options) -> nn.Module:
            net = made(f"{name}ForVideoClassification", f"{name}Config", FILM | options | {"num_labels": 10})
            return net if name == "Timesformer" else Watch.of(net, Preprocess((32, 32))).wrapped(net).eval()

        clips = random(1, 4, 3, 32, 32)
        inputs = {"pixel_values": clips} if name == "Timesformer" else random(1, 6, 64, 32)
        yield subject("films", name, build, inputs)


def from_captions() -> Iterator[Subject]:
    text = {**SIZE, "vocab_size": WORDS, "max_position_embeddings": 12}
    kinds = {
        "CLIP": {"projection_dim": 32, "text_config": text | ENDS},
        "Siglip": {"text_config": text | {"projection_size": 32}},
        "MetaClip2": {"projection_dim": 32, "text_config": text | ENDS},
    }
    for name, options in kinds.items():
        for tower in ("pictures", "texts"):

            def build(name: str = name, options: Any = options, tower: str = tower) -> nn.Module:
                towers = Towers(made(f"{name}Model", f"{name}Config", options | {"vision_config": SEEN}))
                return Similarity(getattr(towers, tower), random(10, 32), towers).eval()

            words = {"input_ids": ids()["input_ids"][:1]}
            yield subject("captions", f"{name}, {tower}", build, random(2, 3, 64, 64) if tower == "pictures" else words)


def from_answers() -> Iterator[Subject]:
    """Networks that read a picture with a text, as `explain` calls them: both kinds of tokens."""
    text = library().LlamaConfig(**LLAMA | {"max_position_embeddings": 90})
    for name in ("Llava", "VipLlava"):
        layers = {"vision_feature_layers": [-2, -1]} if name == "VipLlava" else {}
        vision = library().CLIPVisionConfig(**SEEN)
        options = {"text_config": text, "vision_config": vision, "image_token_id": 50} | layers

        def build(name: str = name, options: Any = options) -> nn.Module:
            net = Answering(made(f"{name}ForConditionalGeneration", f"{name}Config", options))
            prompts = type("Prompts", (), {"number": 50})
            with torch.no_grad():
                return net.beside(net.tokens(random(1, 3, 64, 64)), prompts).eval()

        prompt = torch.tensor([[1, 5, *[50] * 64, 6, 7, 8]])
        yield subject("pictures with texts", name, build, {"input_ids": prompt}, truth=LAST, target=7)
    options = {**SEEN, "vocab_size": WORDS, "num_labels": 10}

    def vilt() -> nn.Module:
        net = Joint(made("ViltForQuestionAnswering", "ViltConfig", options))
        with torch.no_grad():
            return net.beside(net.tokens(random(1, 3, 64, 64)), None).eval()

    inputs = {name: x[:1] for name, x in ids().items()}
    yield subject("pictures with texts", "Vilt", vilt, inputs, truth=FIRST)


def from_detectors() -> Iterator[Subject]:
    """The score of class 1 in the box where it is highest."""
    backbone = library().ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1] * 4, layer_type="basic", out_features=["stage4"]
    )
    queries = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "num_queries": 7}
    plain = {**SIZE, "image_size": [64, 96], "patch_size": 16, "num_detection_tokens": 7}
    kinds = {name: WIDE | queries | {"backbone_config": backbone} for name in ("Detr", "ConditionalDetr")}
    for name, options in {**kinds, "Yolos": plain}.items():

        def build(name: str = name, options: Any = options) -> nn.Module:
            return made(f"{name}ForObjectDetection", f"{name}Config", options | {"num_labels": 3})

        side = (64, 96) if name == "Yolos" else (256, 384)
        inputs = {"pixel_values": random(1, 3, *side)}
        yield subject("detectors", name, build, inputs, target=lambda out: out.logits[..., 1].amax(dim=1))


OTHERS = (from_texts, from_generators, from_sounds, from_films, from_captions, from_answers, from_detectors)
