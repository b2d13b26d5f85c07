"""Models whose last attention reads an encoder, classifiers, generators and detectors; and answers about pictures."""

import pytest
import torch

import gradtoken
from gradtoken.errors import BadModel, NoBlocks
from gradtoken.probe import Probe
from tests.reference import gradtoken as oracle
from tests.zoo import shaken

t = pytest.importorskip("transformers")
IDS = torch.tensor([[5, 6, 7, 8, 9, 1], [10, 11, 1, 0, 0, 0]])
TEXTS = {"input_ids": IDS, "attention_mask": IDS.ne(0).long()}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2, "vocab_size": 60, "num_labels": 3}
LAYERS = {"encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
WIDE = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_labels": 3} | LAYERS
TOKENS = {"vocab_size": 60, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "max_position_embeddings": 40}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 16], "depths": [1] * 4, "layer_type": "basic"}
QUERIES = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "num_queries": 7}
PICTURE = torch.randn(1, 3, 256, 384, generator=torch.Generator().manual_seed(0))


def built(kind: str, config: str, **options):
    torch.manual_seed(0)
    return shaken(getattr(t, kind)(getattr(t, config)(**options))).double()


def detector(kind: str):
    backbone = t.ResNetConfig(**RESNET, out_features=["stage4"])
    return built(f"{kind}ForObjectDetection", f"{kind}Config", backbone_config=backbone, **WIDE, **QUERIES)


def yolos():
    size = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    return built(
        "YolosForObjectDetection", "YolosConfig", **size, image_size=[64, 96], patch_size=16, num_detection_tokens=7
    )


CLASSIFIERS = {
    "T5": lambda: built("T5ForSequenceClassification", "T5Config", **T5, decoder_start_token_id=0),
    "BART": lambda: built("BartForSequenceClassification", "BartConfig", **WIDE, **TOKENS),
}


def seen(output) -> torch.Tensor:
    """The logit of class 1 in the box where it is highest."""
    return output.logits[..., 1].amax(dim=1)


@pytest.mark.parametrize("propagation", ["none", "average_matmul", "rollout_matmul"])
@pytest.mark.parametrize("family", CLASSIFIERS)
def test_a_decoder_of_as_many_tokens_is_told_from_the_encoder(family, propagation):
    net, options = CLASSIFIERS[family](), {"propagation": propagation, "heads": "mean"}
    probe = Probe(net, TEXTS, 1)
    assert len(probe.calls) == {"T5": 3 + 6, "BART": 3 + 4}[family]
    assert probe.blocks == [0, 1, 2, len(probe.calls) - 1]
    assert not probe.last.square
    assert torch.equal(probe.reachable, TEXTS["attention_mask"].bool())
    record = oracle.capture(net, TEXTS, torch.tensor([1, 1]))
    encoder = oracle.Record(record.logits, [*record.attentions[:3], record.attentions[-1]])
    expected = oracle.relevance(encoder, first=0, tokens=6, **options)
    assert expected.any()
    torch.testing.assert_close(gradtoken.attribute(net, TEXTS, 1, **options), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("start", [[0], [0, 4, 5], [0, 4, 5, 6, 7, 8]])
def test_an_encoder_and_a_decoder_that_writes(start):
    """Of one token, of several, and of as many as were read."""
    net = built("T5ForConditionalGeneration", "T5Config", **T5, decoder_start_token_id=0)
    inputs = {"input_ids": IDS[:1], "decoder_input_ids": torch.tensor([start])}
    R = gradtoken.attribute(net, inputs, lambda out: out.logits[:, -1, 7], heads="mean")
    record = oracle.capture(net, inputs, lambda logits: logits[:, -1, 7])
    encoder = oracle.Record(record.logits, [*record.attentions[:3], record.attentions[-1]])
    expected = oracle.relevance(encoder, first=0, tokens=6, heads="mean")
    torch.testing.assert_close(R, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["Detr", "ConditionalDetr"])
def test_a_detector_is_explained_on_the_grid_of_its_encoder(kind):
    net = detector(kind)
    inputs = {"pixel_values": PICTURE.double(), "pixel_mask": torch.ones(1, 256, 384, dtype=torch.long)}
    probe = Probe(net, inputs, seen)
    query = int(net(**inputs).logits[0, :, 1].argmax())
    assert probe.readers.nonzero().tolist() == [[0, query]]
    assert (probe.layout.first, probe.layout.rows, probe.layout.columns) == (0, 8, 12)
    assert probe.last.shape[2:] == (7, 96)
    R = gradtoken.attribute(net, inputs, seen, heads="mean")
    assert R.shape == (1, 8, 12)
    if kind == "Detr":
        record = oracle.capture(net, inputs, lambda logits: logits[:, query, 1])
        expected = oracle.relevance(record, first=0, tokens=96, heads="mean").reshape(1, 8, 12)
        torch.testing.assert_close(R, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["Detr", "ConditionalDetr"])
def test_a_smaller_picture_in_a_batch_has_nothing_on_its_padding(kind):
    """The larger one is as it is alone; convolutions see the edge of the padding, so the smaller is not."""
    pixels, mask = PICTURE.double().repeat(2, 1, 1, 1), torch.ones(2, 256, 384, dtype=torch.long)
    mask[1, 192:], mask[1, :, 256:] = 0, 0
    inputs, net = {"pixel_values": pixels * mask[:, None], "pixel_mask": mask}, detector(kind)
    R = gradtoken.attribute(net, inputs, seen, heads="mean")
    alone = gradtoken.attribute(net, {name: x[:1] for name, x in inputs.items()}, seen, heads="mean")
    torch.testing.assert_close(R[:1], alone, rtol=1e-7, atol=1e-10)
    assert R[1, :6, :8].all()
    assert not R[1, 6:].any()
    assert not R[1, :, 8:].any()


def test_detection_tokens_of_a_plain_transformer():
    net, picture = yolos(), PICTURE[..., :64, :96].double()
    R = gradtoken.attribute(net, picture, seen, heads="mean")
    assert R.shape == (1, 4, 6)
    record = oracle.capture(net, picture, lambda logits: logits[..., 1].amax(dim=1))
    last = record.attentions[-1]
    query = oracle.read_rows(last, 0)
    assert len(query) == 1
    assert query[0] >= 25, "a detection token, behind the class token and the patches"
    M = torch.einsum("hd,hjd->hj", last.q.grad[0].sum(dim=1), last.k[0])[:, 1:25].detach()
    A = sum(a.A[0].mean(dim=0)[1:25, 1:25].detach() for a in record.attentions[:-1]) / 3
    torch.testing.assert_close(R[0].flatten(), (A @ M.mean(dim=0)), rtol=1e-6, atol=1e-9)


ONE_STREAM = ["alti", "attcat", "attribution_rollout", "class_embedding_projection", "decompx", "globenc"]
ONE_STREAM += ["gradcam_features", "legrad"]


@pytest.fixture(scope="module")
def bart():
    return CLASSIFIERS["BART"]()


@pytest.mark.parametrize("method", ONE_STREAM)
def test_methods_that_follow_one_stream_refuse_a_decoder(method, bart):
    with pytest.raises(NoBlocks, match="in BartForSequenceClassification the tokens of a decoder read those explained"):
        gradtoken.attribute(bart, TEXTS, 1, method)


@pytest.mark.parametrize("method", ["generic_attention", "gaze", "input_x_gradient", "raw_attention", "rollout"])
def test_other_methods_explain_what_the_encoder_read(method, bart):
    R = gradtoken.attribute(bart, TEXTS, 1, method)
    alone = gradtoken.attribute(bart, {name: x[1:, :3] for name, x in TEXTS.items()}, 1, method)
    assert R.shape == (2, 6)
    torch.testing.assert_close(R[1:, :3], alone, rtol=1e-6, atol=1e-9)
    assert not R[1, 3:].any(), "padding"


@pytest.mark.parametrize("words", [2, 6])
def test_the_picture_of_a_model_that_answers_about_it(words):
    """LLaVA's kind: patches among the tokens of a language model, which are fewer than twice as many."""
    vision = t.CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=64, patch_size=16
    )
    text = t.LlamaConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, vocab_size=60,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    net = built(
        "LlavaForConditionalGeneration", "LlavaConfig", vision_config=vision, text_config=text, image_token_index=50
    )
    ids = torch.tensor([[5, 6] + [50] * 16 + [7] * words])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": PICTURE[..., :64, :64].double()}
    probe = Probe(net, inputs, lambda out: out.logits[:, -1, 7])
    assert (probe.layout.first, probe.layout.rows, probe.layout.columns) == (2, 4, 4)
    assert probe.readers.nonzero().tolist() == [[0, 17 + words]]
    assert gradtoken.attribute(net, inputs, lambda out: out.logits[:, -1, 7], heads="mean").shape == (1, 4, 4)


def test_folders_of_these_say_what_to_do(tmp_path):
    detector("Detr").save_pretrained(tmp_path / "detr")
    with pytest.raises(
        BadModel, match=r"is a DetrForObjectDetection, which scores each class in each box: target=lambda"
    ):
        gradtoken.load(tmp_path / "detr")
    built("T5ForConditionalGeneration", "T5Config", **T5).save_pretrained(tmp_path / "t5")
    with pytest.raises(
        BadModel, match=r"which writes what it has read: .*; load it with transformers, and give gradto"
    ):
        gradtoken.load(tmp_path / "t5")
