"""ViLT, one tower for pictures and texts: map and words of one answer, against GradToken written out naively."""

import numpy as np
import pytest
import torch

import gradtoken
from gradtoken.errors import BadModel, BadTarget, BadText, NoGrid
from gradtoken.methods import METHODS
from gradtoken.models.answers import about
from gradtoken.models.load import load
from tests import answers, texts
from tests.reference import gradtoken as oracle
from tests.towers import picture
from tests.zoo import shaken

t = pytest.importorskip("transformers")
QUESTION = "is the film not good ?"
NAMES = {0: "yes", 1: "no", 2: "cat"}
NUMBERS = {"heads": "mean"}
SIZE = (40, 70)  # of the picture; 48 x 96 pixels and 3 x 6 patches of it are read


def network(**options):
    names = {"id2label": NAMES, "label2id": {name: i for i, name in NAMES.items()}}
    kept = {"image_size": 64, "patch_size": 16, "vocab_size": len(texts.VOCAB), "max_position_embeddings": 24}
    return shaken(t.ViltForQuestionAnswering(t.ViltConfig(**answers.SIZE, **kept, **names, **options)))


def processor():
    return t.ViltImageProcessorPil(size={"shortest_edge": 64}, size_divisor=16)


def saved(folder, **options):
    for part in (network(**options), texts.tokenizer(), processor()):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("vilt"))


@pytest.fixture(scope="module")
def model(folder):
    return load(folder, dtype="float64")


@pytest.mark.parametrize("size", [SIZE, (64, 64), (200, 33), (50, 49), (64, 400)])
def test_pixels_are_those_of_the_image_processor(model, size):
    expected = processor()(picture(0, size), return_tensors="pt")["pixel_values"]
    view = model.for_pictures(picture(0, size))
    torch.testing.assert_close(view.pixels[None], expected, rtol=0, atol=1e-5)
    assert view.box == (0, 0, size[1], size[0])


def test_answers_are_those_of_the_network_whatever_order_it_draws(model):
    found = gradtoken.explain(picture(0, SIZE), model, ["yes", "no", "cat"], prompt=QUESTION, **NUMBERS)
    pixels = processor()(picture(0, SIZE), return_tensors="pt")
    pixels["pixel_values"] = pixels["pixel_values"].double()
    words = texts.tokenizer()(QUESTION, return_tensors="pt")
    for _ in range(2):  # another order in each
        with torch.no_grad():
            logits = model.net.net(**words, **pixels).logits[0]
        assert [one.logit for one in found[:3]] == pytest.approx(logits.tolist(), rel=1e-6)
    assert [one.probability for one in found[:3]] == pytest.approx(logits.sigmoid().tolist(), rel=1e-6)


def test_patches_lie_where_they_are(model):
    """A changed patch of the picture changes its own token and no other."""
    language, seen = about(model, picture(0, SIZE))
    pixels, tokens = model.for_pictures(picture(0, SIZE)).pixels[None].double(), language.net.get_buffer("tokens")
    assert (seen.rows, seen.columns, seen.first) == (3, 6, 1)
    for i, j in ((0, 0), (1, 4), (2, 5)):
        changed = pixels.clone()
        changed[..., 16 * i : 16 * i + 16, 16 * j : 16 * j + 16] *= -3
        with torch.no_grad():
            moved = (model.net.tokens(changed) - tokens).abs().sum(dim=2)[0, seen.patches]
        assert moved.nonzero().tolist() == [[6 * i + j]]


@pytest.mark.parametrize("propagation", ["average_matmul", "rollout_elementwise"])
def test_the_map_and_the_words_are_what_they_are_written_out_naively(model, propagation):
    options = {"propagation": propagation, **NUMBERS}
    seen, words = gradtoken.explain(picture(0, SIZE), model, "cat", prompt=QUESTION, merge="pieces", **options)
    language, _ = about(model, picture(0, SIZE))
    inputs = {name: x[None] for name, x in language.for_texts(QUESTION).inputs.items()}
    record = written_out(language.net, inputs)
    total, N = record.attentions[-1].A.shape[-1], inputs["input_ids"].shape[1]
    assert total == N + 1 + 18
    expected = oracle.relevance(record, first=1, tokens=total - 1, **options)[0]  # the text's class token reads
    np.testing.assert_allclose(words.relevance, expected[: N - 2], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(seen.relevance, expected[N:].reshape(3, 6), rtol=1e-4, atol=1e-9)


def written_out(net, inputs) -> oracle.Record:
    """ViLT's attentions, of what its own modules return; dO = A (dA - (A dA) summed over keys), dq = dO k / sqrt(D)."""
    ends = ("attention.query", "attention.key")
    modules = [[m for name, m in net.named_modules() if name.endswith(end)] for end in ends]
    seen: dict[torch.nn.Module, torch.Tensor] = {}
    hooks = [m.register_forward_hook(lambda m, _, out: seen.update({m: out.detach()})) for one in modules for m in one]
    out = net(**inputs, output_attentions=True)
    for hook in hooks:
        hook.remove()
    for A in out.attentions:
        A.retain_grad()
    out.logits[:, 2].sum().backward()
    net.zero_grad()
    found = []
    for query, key, A in zip(*modules, out.attentions, strict=True):
        q, k = (seen[m].unflatten(-1, (2, -1)).transpose(1, 2) for m in (query, key))
        scale = q.shape[-1] ** -0.5
        torch.testing.assert_close((scale * q @ k.mT).softmax(dim=-1), A)
        q.grad = scale * (A * (A.grad - (A * A.grad).sum(dim=-1, keepdim=True))).detach() @ k
        found.append(oracle.Attention(q, k, q @ k.mT, A.detach(), torch.zeros_like(A, dtype=torch.bool), scale))
    return oracle.Record(out.logits.detach(), found)


def test_relevance_that_is_shared_out_is_kept(model):
    options = {"prompt": QUESTION, "merge": "sum", "special": True}
    seen, words = gradtoken.explain(picture(0, SIZE), model, "cat", "attn_lrp", **options)
    language, _ = about(model, picture(0, SIZE))
    inputs = {name: x[None] for name, x in language.for_texts(QUESTION).inputs.items()}
    R = gradtoken.attribute(language.net, inputs, 2, "attn_lrp")[0]
    N = inputs["input_ids"].shape[1]
    np.testing.assert_allclose(words.relevance.sum(), R[:N].sum(), rtol=1e-5)
    np.testing.assert_allclose(seen.relevance.sum(), R[N + 1 :].sum(), rtol=1e-5)
    assert words.words.names[0] == "[CLS]"
    assert "patch" not in words.words.names


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_or_says_why(model, method):
    options = {"prompt": QUESTION, "allow_blank": True}
    if method in ("occlusion", "reciprocam", "tis", "vit_cx"):
        with pytest.raises(NoGrid, match="erases or mixes parts of a picture; expected inputs"):
            gradtoken.explain(picture(0, SIZE), model, "cat", method, **options)
        return
    seen, words = gradtoken.explain(picture(0, SIZE), model, "cat", method, **options)
    assert seen.relevance.shape == (3, 6)
    assert words.words.names == ("is", "the", "film", "not", "good", "?")


def test_a_long_question_is_cut_off_and_that_is_said(model):
    _, words = gradtoken.explain(picture(0, SIZE), model, "cat", prompt="the film " * 40, **NUMBERS)
    assert len(words.words.names) == 22
    assert "22 of 80 tokens were read" in words.note


def test_bad_requests(model, folder, tmp_path):
    with pytest.raises(BadTarget, match="windows= reads a text in parts, and this one is read beside a picture"):
        gradtoken.explain(picture(), model, prompt=QUESTION, windows=2)
    with pytest.raises(BadText, match="the text is empty; expected at least one word"):
        gradtoken.explain(picture(), model, prompt="")
    with pytest.raises(BadTarget, match="reads a text with each picture; give the text too"):
        gradtoken.explain(picture(), model)
    drawn = load(saved(tmp_path, max_image_length=5))
    with pytest.raises(BadModel, match=r"draws 5 of 18 patches at random \(max_image_length=5 in config\.json\)"):
        gradtoken.explain(picture(0, SIZE), drawn, prompt=QUESTION)


def test_a_module_in_hand(folder, model):
    net = t.ViltForQuestionAnswering.from_pretrained(folder)
    found = gradtoken.explain(picture(0, SIZE), net, "cat", prompt=QUESTION, **NUMBERS)
    expected = gradtoken.explain(picture(0, SIZE), model, "cat", prompt=QUESTION, **NUMBERS)
    np.testing.assert_allclose(found[0].relevance, expected[0].relevance, atol=1e-5)
