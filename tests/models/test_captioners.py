"""Networks that describe pictures, called with tensors: a grid, a value for each token, or a refusal that says why."""

import pytest
import torch

import gradtoken
from gradtoken.errors import BadModel, NoGrid
from gradtoken.probe import Probe
from tests import tokenizers
from tests.reference import gradtoken as oracle
from tests.zoo import shaken

t = pytest.importorskip("transformers")
SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
SEEN = {**SIZE, "image_size": 64, "patch_size": 16}
ENDS = {"bos_token_id": 1, "eos_token_id": 2}
PICTURE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
WORDS = torch.tensor([[1, 6, 7, 8]])
OPTIONS = {"heads": "mean"}


def built(kind: str, config) -> torch.nn.Module:
    torch.manual_seed(0)
    return shaken(getattr(t, kind)(config)).double()


def blip() -> torch.nn.Module:
    kept = {"encoder_hidden_size": 16, "sep_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 20}
    text = t.BlipTextConfig(**SIZE, **ENDS, **kept, vocab_size=60)
    vision = t.BlipVisionConfig(**SEEN)
    config = t.BlipConfig(vision_config=vision.to_dict(), text_config=text.to_dict())
    return built("BlipForConditionalGeneration", config)


def git() -> torch.nn.Module:
    vision = t.GitVisionConfig(**SEEN).to_dict()
    config = t.GitConfig(vision_config=vision, **SIZE, **ENDS, vocab_size=60, max_position_embeddings=40)
    return built("GitForCausalLM", config)


def next_word(output) -> torch.Tensor:
    return output.logits[:, -1, 7]


def last(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, -1, 7]


def test_a_decoder_of_words_that_reads_the_patches():
    """BLIP: the map is over its tower's grid, smoothed by the tower."""
    net, inputs = blip(), {"pixel_values": PICTURE, "input_ids": WORDS}
    probe = Probe(net, inputs, next_word)
    assert probe.last.cross
    assert (probe.layout.first, probe.layout.rows, probe.layout.columns) == (1, 4, 4)
    assert probe.readers.nonzero().tolist() == [[0, 3]]
    R = gradtoken.attribute(net, inputs, next_word, **OPTIONS)
    cross = net.text_decoder.bert.encoder.layer[-1].crossattention.self
    seen = {}
    hooks = [m.register_forward_hook(lambda m, _, out: seen.update({m: out})) for m in (cross.query, cross.key)]
    out = net(**inputs, output_attentions=True)
    for hook in hooks:
        hook.remove()
    (dq,) = torch.autograd.grad(next_word(out).sum(), seen[cross.query])
    dq, k = (x.unflatten(-1, (2, -1)).transpose(1, 2) for x in (dq, seen[cross.key]))
    M = torch.einsum("bhd,bhjd->bhj", dq.sum(dim=2), k).mean(dim=1)[0, 1:]
    A = sum(a[0].mean(dim=0)[1:, 1:] for a in out.attentions) / 4  # of the tower; the last attention makes four
    torch.testing.assert_close(R, (A @ M).reshape(1, 4, 4).detach(), rtol=1e-6, atol=1e-9)


def test_patches_in_front_of_the_words():
    """GIT: one decoder, whose first tokens are the picture's."""
    net, inputs = git(), {"pixel_values": PICTURE, "input_ids": WORDS}
    probe = Probe(net, inputs, next_word)
    assert (probe.layout.first, probe.layout.rows, probe.layout.columns) == (1, 4, 4)
    assert probe.readers.nonzero().tolist() == [[0, 17 + 3]]
    assert gradtoken.attribute(net, inputs, next_word, **OPTIONS).shape == (1, 4, 4)


def test_a_prefix_that_sees_all_of_itself():
    """PaliGemma: patches and question attend to each other."""
    vision = t.SiglipVisionConfig(**SEEN, projection_dim=16, vision_use_head=False)
    text = t.GemmaConfig(**SIZE, vocab_size=60, num_key_value_heads=1, head_dim=8)
    config = t.PaliGemmaConfig(vision_config=vision, text_config=text, image_token_id=50, projection_dim=16)
    net = built("PaliGemmaForConditionalGeneration", config)
    ids = torch.tensor([[50] * 16 + [5, 6, 7, 8]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    inputs |= {"pixel_values": PICTURE}
    R = gradtoken.attribute(net, inputs, next_word, **OPTIONS)
    assert R.shape == (1, 4, 4)
    attentions = oracle.capture(net, inputs, last).attentions[-3:]
    M = torch.einsum("hd,hjd->hj", attentions[-1].q.grad[0].sum(dim=1), attentions[-1].k[0])[:, :16].mean(dim=0)
    A = sum(a.A[0].mean(dim=0)[:16, :16] for a in attentions[:-1]) / 3
    torch.testing.assert_close(R, (A @ M).reshape(1, 4, 4).detach(), rtol=1e-5, atol=1e-8)


def qwen() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 8, "mlp_ratio": 2}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    text = {**SIZE, **ENDS, "vocab_size": 60, "num_key_value_heads": 1, "rope_parameters": rope}
    marks = {"image_token_id": 50, "video_token_id": 51, "vision_start_token_id": 52, "vision_end_token_id": 53}
    net = built("Qwen2VLForConditionalGeneration", t.Qwen2VLConfig(vision_config=vision, text_config=text, **marks))
    ids = torch.tensor([[5, 52] + [50] * 16 + [53, 7, 8]])
    pixels = torch.randn(64, 3 * 2 * 8 * 8, generator=torch.Generator().manual_seed(0)).double()
    given = {
        "pixel_values": pixels,
        "image_grid_thw": torch.tensor([[1, 8, 8]]),
        "mm_token_type_ids": ids.eq(50).long(),
    }
    return net, {"input_ids": ids, "attention_mask": torch.ones_like(ids), **given}


def test_pictures_of_any_size_give_a_value_for_each_token():
    """Qwen2-VL: its pixels come as a list of patches, so no grid of a picture is looked for."""
    net, inputs = qwen()
    R = gradtoken.attribute(net, inputs, next_word, **OPTIONS)
    assert R.shape == (1, 21)
    record = oracle.capture(net, inputs, last)
    expected = oracle.relevance(oracle.Record(record.logits, record.attentions[-3:]), first=0, tokens=21, **OPTIONS)
    torch.testing.assert_close(R, expected, rtol=1e-5, atol=1e-8)


def test_queries_instead_of_patches_are_refused():
    """BLIP-2: the language model reads 8 learnt queries, which have no place on the picture."""
    text = t.OPTConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, ffn_dim=32, word_embed_proj_dim=16, vocab_size=60,
        max_position_embeddings=60, **ENDS,
    )  # fmt: skip
    queries = {**SIZE, "vocab_size": 60, "encoder_hidden_size": 16}
    config = t.Blip2Config(
        vision_config=SEEN, qformer_config=queries, text_config=text.to_dict(), num_query_tokens=8, image_token_id=50
    )
    ids = torch.tensor([[50] * 8 + [5, 6, 7, 8]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": PICTURE}
    with pytest.raises(NoGrid, match="12 tokens, which no grid of patches of a 64 x 64 picture fits"):
        gradtoken.attribute(built("Blip2ForConditionalGeneration", config), inputs, next_word, **OPTIONS)


def test_a_picture_as_few_tokens_among_words_is_refused():
    """Florence-2: its encoder reads the mean of all places beside a small grid."""
    widths = {"embed_dim": [8, 16, 16, 16], "depths": [1] * 4, "num_heads": [2] * 4, "num_groups": [2] * 4}
    vision = t.Florence2VisionConfig(**widths, projection_dim=16, drop_path_rate=0.0)
    layers = {"encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ffn = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "pad_token_id": 0}
    text = t.BartConfig(**ffn, **layers, **ENDS, vocab_size=60, max_position_embeddings=60)
    config = t.Florence2Config(vision_config=vision, text_config=text, image_token_id=50)
    ids = torch.tensor([[50] * 5 + [6, 7, 8]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": PICTURE}
    inputs |= {"decoder_input_ids": torch.tensor([[2, 6]])}
    with pytest.raises(NoGrid, match="8 tokens, which no grid of patches of a 64 x 64 picture fits"):
        gradtoken.attribute(built("Florence2ForConditionalGeneration", config), inputs, next_word, **OPTIONS)


def test_folders_of_these_say_what_to_do(tmp_path):
    """GIT's head is called that of a language model, and would go on without its picture."""
    for name, net in (("blip", blip()), ("git", git()), ("qwen", qwen()[0])):
        net.save_pretrained(tmp_path / name)
        tokenizers.KINDS["byte fallback"](32).save_pretrained(tmp_path / name)
        with pytest.raises(BadModel, match=r"writes what it has read: .* give gradtoken\.attribute the network"):
            gradtoken.load(tmp_path / name)
