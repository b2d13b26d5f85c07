"""Prompts explained by the simple call and in the shell: what follows, several targets, refusals."""

import json

import numpy as np
import pytest
import torch

import gradtoken
from gradtoken.errors import BadTarget, BadText, UnknownName
from gradtoken.models.load import load
from gradtoken.models.prompt import Prompts
from tests import generators, tokenizers
from tests.test_cli import run

PROMPT = "The film was never dull, a very good"
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generators.saved("GPT2", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder):
    return load(folder, dtype="float64")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return load(generators.saved("Llama", tmp_path_factory.mktemp("llama")))


def logits(model, text=PROMPT):
    ids = model.for_texts(text).inputs["input_ids"][None]
    return model.net.net(input_ids=ids).logits[0, -1].detach()


def test_the_prediction(model):
    one = gradtoken.explain(PROMPT, model, heads="mean", merge="sum")
    y = logits(model)
    assert one.target == int(y.argmax())
    assert one.logit == pytest.approx(y.max().item())
    assert one.probability == pytest.approx(y.softmax(0).max().item())
    assert one.words.names == ("The", "film", "was", "never", "dull", ",", "a", "very", "good")
    assert one.predicted[0] == (one.name, one.probability)
    inputs = model.for_texts.padded([model.for_texts(PROMPT).inputs])
    R = gradtoken.attribute(model.net, inputs, one.target, heads="mean")[0]
    np.testing.assert_allclose(one.relevance.sum(), R.sum(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["model", "llama"])
def test_a_word_with_and_without_its_blank_is_one(kind, request):
    model = request.getfixturevalue(kind)
    both = gradtoken.explain(PROMPT, model, [" film", "film"], heads="mean")
    assert [one.name for one in both] == [" film", " film"]
    assert both[0].target == both[1].target == model.for_texts.followed(PROMPT, " film")[1][0]
    np.testing.assert_array_equal(both[0].relevance, both[1].relevance)
    after_blank = gradtoken.explain(PROMPT + " ", model, "film", heads="mean")
    np.testing.assert_allclose(both[0].relevance, after_blank.relevance, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    ("prompt", "target", "follows"),
    [
        ("The film", " was", " was"),
        ("The film", "was", " was"),
        ("The film:", "was", " was"),
        ("The film was", ", never", ", never"),
        ("The film (", "was", "was"),
        ("The film\n", "was", "\nwas"),
        ("The film", "\n", "\n"),
        ("電影很", "好看", "好看"),
    ],
)
@pytest.mark.parametrize("kind", [generators.BYTES, generators.PIECES, "byte-level BPE"])
def test_prompt_and_target_are_one_text(kind, prompt, target, follows):
    tokenizer = tokenizers.KINDS[kind](64)
    text, ids = Prompts.by(tokenizer, 64).followed(prompt, target)
    assert text == prompt.rstrip()
    before = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(before + ids) == text + follows
    assert tokenizer(text + follows, add_special_tokens=False)["input_ids"] == before + ids


def test_many_targets_in_their_order(model):
    targets = [" film", None, " film is likely", 7, lambda y: y[:, 3] - y[:, 4]]
    together = gradtoken.explain(
        PROMPT, model, targets, ["gradtoken", "input_x_gradient"], **{"gradtoken.heads": "mean"}
    )
    assert [one.method for one in together] == ["gradtoken"] * 5 + ["input_x_gradient"] * 5
    for i, target in enumerate(targets):
        alone = gradtoken.explain(PROMPT, model, target, heads="mean")
        assert (together[i].name, together[i].target) == (alone.name, alone.target)
        assert together[i].logit == pytest.approx(alone.logit)
        np.testing.assert_allclose(together[i].relevance, alone.relevance, rtol=1e-5, atol=1e-9)


def test_a_continuation(model):
    one = gradtoken.explain(PROMPT, model, " film is very likely", heads="mean")
    assert one.name == " film is very likely"
    assert one.logit == pytest.approx(np.log(one.probability))
    assert [name for name, _ in one.predicted] == ["anything else", " film is very likely"]
    assert "log-probability of 7 tokens, of which all but the last are read too, uncoloured" in one.note
    assert one.words.names[-1] == "good"
    shown = gradtoken.explain(PROMPT, model, " film is very likely", heads="mean", special=True)
    assert shown.words.names[9:] == ("Ġfilm", "Ġis", "Ġ", "ver", "y", "Ġli")
    np.testing.assert_array_equal(shown.relevance[:9], one.relevance)


def test_a_long_prompt_is_read_from_its_end(model):
    text = "dull " * 100_000 + PROMPT
    one = gradtoken.explain(text, model, heads="mean")
    read = model.for_texts(text).inputs["input_ids"]
    assert len(read) == generators.LENGTH
    assert one.words.read[1] == len(text)
    assert one.words.names[-1] == "good"
    assert one.logit == pytest.approx(model.net.net(input_ids=read[None]).logits[0, -1].max().item())
    assert "the last 48 of 200,016 tokens were read" in one.note
    longer = gradtoken.explain("dull " * 100 + PROMPT, model, " film is", heads="mean")
    assert "the last 47 of 216 tokens were read" in longer.note


def test_tokens_that_a_tokenizer_adds_at_the_end_are_left_out():
    prompts = Prompts.by(tokenizers.KINDS["byte-level BPE"](64), 64)
    assert prompts.tokenizer("film")["input_ids"][-1] == prompts.tokenizer.eos_token_id
    ids = prompts("film").inputs["input_ids"].tolist()
    assert ids == prompts.tokenizer("film")["input_ids"][:-1]


@pytest.mark.parametrize(
    ("text", "target", "error", "message"),
    [
        ("", None, BadText, "the text is empty"),
        ("a", None, BadText, "'a' is one token, and attention over a single one is always 1; expected a longer prompt"),
        (PROMPT, "", BadTarget, "'' holds no token; expected what may follow the prompt, or None for the prediction"),
        (PROMPT, 400, BadTarget, "class index 400 is out of range; this model has 400 classes, 0 to 399"),
        (PROMPT, -1, BadTarget, "class index -1 is out of range"),
        (PROMPT, True, BadTarget, "expected a class index or a class name, got bool True"),
        (PROMPT, 1.5, BadTarget, "got float 1.5"),
        (PROMPT, "film " * 60, BadTarget, r"a continuation of \d+ tokens leaves no room for a prompt; 48 are read"),
        (PROMPT, [], BadTarget, "expected at least one target"),
    ],
)
def test_bad_requests(model, text, target, error, message):
    with pytest.raises(error, match=message):
        gradtoken.explain(text, model, target)


def test_windows_and_unknown_tokens_are_refused(model):
    with pytest.raises(
        BadTarget, match="windows= reads a text in parts, and a next token has one prompt; leave it out"
    ):
        gradtoken.explain(PROMPT, model, windows=4)
    with pytest.raises(
        BadTarget, match=r"',' joins the end of the prompt, whose tokens end in .* without it, in .*1997,'"
    ):
        Prompts.by(tokenizers.KINDS[generators.PIECES](64), 64).followed("Acted in 1997", ",")
    prompts = Prompts.by(tokenizers.KINDS["WordPiece, few words"](64), 64)
    with pytest.raises(BadTarget, match="the tokenizer does not know 'zzz'; give another target"):
        prompts.followed("the film", "zzz")
    with pytest.raises(UnknownName, match=r"' film is' is 2 tokens; gradtoken\.explain takes it as a continuation"):
        model.labels.find(" film is")


def test_the_shell(folder, tmp_path):
    asked = (
        "explain",
        "--text",
        PROMPT,
        "--model",
        folder,
        "--target",
        " film",
        "--target",
        "film is",
        "--method",
        "rollout",
    )
    result = run(*asked)
    assert result.exit_code == 0, result.output
    assert " film  probability" in result.output
    assert " film is  probability" in result.output
    result = run(*asked, "--out", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "a.json").read_text())["explanations"]
    assert [one["name"] for one in found] == [" film", " film is"]
    result = run("explain", "--text", PROMPT, "--model", folder, "--target", "")
    assert result.exit_code == 1
    assert "BadTarget: '' holds no token" in result.output


def test_the_model_is_left_as_it_was(model):
    before = {name: x.clone() for name, x in model.net.state_dict().items()}
    gradtoken.explain(PROMPT, model, " film is")
    assert all(torch.equal(x, before[name]) for name, x in model.net.state_dict().items())
    assert not any(p.grad is not None for p in model.net.parameters())
