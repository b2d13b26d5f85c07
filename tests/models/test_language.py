"""Every family of causal language models: GradToken as written out naively, padding on either side, continuations."""

import numpy as np
import pytest
import torch

import gradtoken
from gradtoken.attention import rows
from gradtoken.errors import BadModel
from gradtoken.models.labels import Labels
from gradtoken.models.language import NextToken, Vocabulary
from gradtoken.models.load import load
from gradtoken.models.prompt import Prompts
from gradtoken.models.text import Encode
from gradtoken.probe import Probe
from tests import generators, tokenizers
from tests.reference import gradtoken as oracle

PROMPTS = ("The film was never dull, a very good", "a bad", "The actors never do bad plots;")
CONTINUATION = " film is very likely"
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


@pytest.fixture(scope="module", params=generators.FAMILIES)
def model(request, tmp_path_factory):
    return load(generators.saved(request.param, tmp_path_factory.mktemp("model")), dtype="float64")


def ids_of(model, text: str) -> list[int]:
    return model.for_texts(text).inputs["input_ids"].tolist()


def batch_of(model, side: str) -> dict[str, torch.Tensor]:
    rows = [ids_of(model, text) for text in PROMPTS]
    width = max(map(len, rows))

    def padded(row: list[int], fill: int) -> list[int]:
        rest = [fill] * (width - len(row))
        return rest + row if side == "left" else row + rest

    masks = [padded([1] * len(row), 0) for row in rows]
    return {"input_ids": torch.tensor([padded(row, 3) for row in rows]), "attention_mask": torch.tensor(masks)}


def given(ids: list[int]) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}


def test_logits_are_those_behind_the_last_token(model):
    for side in ("left", "right"):
        found = model.net(**batch_of(model, side))
        for i, text in enumerate(PROMPTS):
            alone = model.net.net(input_ids=torch.tensor([ids_of(model, text)])).logits[0, -1]
            torch.testing.assert_close(found[i], alone, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        model.net(torch.tensor([ids_of(model, PROMPTS[0])])), model.net(**given(ids_of(model, PROMPTS[0])))
    )


@pytest.mark.parametrize("propagation", ["rollout_elementwise", "average_matmul"])
def test_gradtoken_is_what_it_is_written_out_naively(model, propagation):
    ids = ids_of(model, PROMPTS[0])
    options = {"propagation": propagation, "heads": "mean"}
    R = gradtoken.attribute(model.net, given(ids), 7, **options)
    expected = oracle.gradtoken(
        model.net.net, given(ids), lambda logits: logits[:, -1, 7], first=0, tokens=len(ids), **options
    )
    assert expected.any()
    torch.testing.assert_close(R, expected, rtol=1e-6, atol=1e-9)  # rotary angles are of single precision


def test_a_continuation_is_what_it_is_written_out_naively(model):
    prompt, ids = model.for_texts.followed(PROMPTS[0], CONTINUATION)
    before = ids_of(model, prompt)
    N, T = len(before), len(ids)
    assert T > 1
    inputs = given(before + ids[:-1])

    def score(logits: torch.Tensor) -> torch.Tensor:
        return sum(logits[:, N - 1 + t].log_softmax(-1)[:, c] for t, c in enumerate(ids))

    expected = oracle.gradtoken(model.net.net, inputs, score, first=0, tokens=N + T - 1, heads="mean")
    R = gradtoken.attribute(model.net, inputs | {"continuation": torch.tensor([ids])}, 0, heads="mean")
    torch.testing.assert_close(R, expected, rtol=1e-6, atol=1e-9)
    one = gradtoken.explain(PROMPTS[0], model, CONTINUATION, heads="mean", merge="sum")
    special = sum(span is None for span in model.for_texts(prompt).spans)
    np.testing.assert_allclose(one.relevance.sum(), R[0, special:N].sum(), rtol=1e-5)
    assert one.logit == pytest.approx(score(model.net.net(**inputs).logits).item(), rel=1e-6)
    assert one.probability == pytest.approx(np.exp(one.logit), rel=1e-9, abs=1e-300)


def test_relevance_of_a_continuation_is_the_sum_of_that_of_its_tokens(model):
    """Signed and without propagation, each token with the others given."""
    prompt, ids = model.for_texts.followed(PROMPTS[0], CONTINUATION)
    before, options = ids_of(model, prompt), {"heads": "mean", "propagation": "none"}
    N = len(before)
    inputs = given(before + ids[:-1]) | {"continuation": torch.tensor([ids])}
    whole = gradtoken.attribute(model.net, inputs, 0, **options)[0, :N]

    def of_token(t: int) -> torch.Tensor:
        inputs = given(before + ids[:-1])
        score = lambda out: out.logits[:, N - 1 + t].log_softmax(-1)[:, ids[t]]  # noqa: E731
        return gradtoken.attribute(model.net.net, inputs, score, **options, allow_blank=True)[0, :N]

    windowed = "sliding_window" in vars(model.net.net.config) and model.net.net.config.sliding_window is not None
    if windowed:  # which keys a token sees depends on its place
        pytest.skip("its last attention sees a few tokens back, others from each token of the continuation")
    torch.testing.assert_close(whole, sum(of_token(t) for t in range(len(ids))), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("family", generators.BY_HAND)
def test_attention_that_is_written_by_hand(family):
    """Single precision, in which padding in front gives these families numbers."""
    net = NextToken(generators.network(family, generators.BY_HAND))
    batch = {"input_ids": torch.tensor([[3, 3, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14]])}
    batch["attention_mask"] = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    probe = Probe(net, batch, 7)
    expected = net.net(**batch, output_attentions=True).attentions
    assert len(expected) == len(probe.attention) == 3
    for attention, A in zip(probe.attention, expected, strict=True):
        torch.testing.assert_close(rows(attention, 5, 6), A[:, :, 5:6])
    together = gradtoken.attribute(net, batch, 7, heads="mean")
    alone = gradtoken.attribute(net, {name: x[:1, 2:] for name, x in batch.items()}, 7, heads="mean")
    torch.testing.assert_close(together[:1, 2:], alone, rtol=1e-3, atol=1e-6)
    assert not together[0, :2].any()


@pytest.mark.parametrize(
    ("side", "method"), [("left", "gradtoken"), ("right", "rollout"), ("left", "input_x_gradient")]
)
def test_a_padded_batch_is_its_prompts_alone(model, side, method):
    options = {"heads": "mean"} if method == "gradtoken" else {}
    batch, target = batch_of(model, side), torch.tensor([7, 8, 9])
    together = gradtoken.attribute(model.net, batch, target, method, **options)
    for i, text in enumerate(PROMPTS):
        alone = gradtoken.attribute(model.net, given(ids_of(model, text)), target[i : i + 1], method, **options)[0]
        seen = batch["attention_mask"][i].bool()
        torch.testing.assert_close(together[i, seen], alone, rtol=1e-5, atol=1e-9)
        assert not together[i, ~seen].any()


@pytest.mark.parametrize("family", ["Mistral", "Gemma3Text"])
def test_where_attention_slides_earlier_words_count_through_the_blocks_between(family):
    """The last attention sees six tokens of twelve: GradToken's map is of these, others reach further."""
    net, inputs = NextToken(generators.network(family).double()), given(list(range(5, 17)))
    probe = Probe(net, inputs, 7)
    assert probe.reachable[0].tolist() == [False] * 6 + [True] * 6
    R = gradtoken.attribute(net, inputs, 7, heads="mean")[0]
    assert not R[:6].any()
    assert R[6:].all()
    for method in ("rollout", "input_x_gradient", "attn_lrp", *(["globenc"] if family == "Mistral" else [])):
        assert gradtoken.attribute(net, inputs, 7, method)[0].all(), method


def test_the_rows_that_are_read(model):
    probe = Probe(model.net, batch_of(model, "left"), 7)
    assert probe.readers.nonzero().tolist() == [[i, probe.readers.shape[1] - 1] for i in range(len(PROMPTS))]
    assert probe.layout.first == 0
    assert len(probe.attention) == 3


def test_a_module_in_hand():
    net, tokenizer = generators.network("GPT2"), tokenizers.KINDS[generators.BYTES](32)
    model = load(net, preprocess=Encode(tokenizer, 20))
    assert isinstance(model.net, NextToken)
    assert isinstance(model.for_texts, Prompts)
    assert model.for_texts.length == 20
    assert tokenizer.truncation_side == "right", "the user's tokenizer is left alone"
    assert len(model.labels) == net.config.vocab_size
    with pytest.raises(BadModel, match=r"a model of texts gradtoken\.models\.text\.Encode\(tokenizer, length\)"):
        load(net)
    with pytest.raises(BadModel, match=r"2 class names were given for a model with \d+ classes"):
        load(net, preprocess=Encode(tokenizer, 20), labels=Labels(("a", "b")))


def test_the_head_is_the_one_that_the_configuration_names(tmp_path):
    t = pytest.importorskip("transformers")
    generators.saved("GPT2", tmp_path)
    assert type(load(tmp_path).net.net) is t.GPT2LMHeadModel
    config = t.GPT2Config.from_pretrained(tmp_path, num_labels=2, pad_token_id=1)
    t.GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    assert type(load(tmp_path).net) is t.GPT2ForSequenceClassification


def test_tokens_have_the_names_that_stand_in_a_text():
    for kind in (generators.BYTES, generators.PIECES):
        tokenizer = tokenizers.KINDS[kind](32)
        names = Vocabulary(tokenizer, len(tokenizer) + 2)
        ids = tokenizer("The film", add_special_tokens=False)["input_ids"]
        assert names[ids[-1]] == " film"
        assert names[names.find(" film" if kind == generators.BYTES else "film")] == " film"
        assert names[len(tokenizer)] == f"token {len(tokenizer)}"
        assert len(names[:4]) == 4
        assert all(names)
    byte = tokenizer.convert_tokens_to_ids("<0x0A>")
    assert (names[byte], names[tokenizer.convert_tokens_to_ids("<0xE5>")]) == ("\\n", "<0xE5>")
