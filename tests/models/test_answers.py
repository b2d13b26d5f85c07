"""Models that answer about pictures: both kinds of tokens of one prompt, against GradToken written out naively."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import gradtoken
from gradtoken.cli import app
from gradtoken.errors import BadModel, BadPicture, BadTarget, BadText, NoGrid, NoRule
from gradtoken.methods import METHODS
from gradtoken.models.answers import about
from gradtoken.models.load import load
from gradtoken.result import Explanations
from tests import answers, texts
from tests.reference import gradtoken as oracle
from tests.towers import picture

t = pytest.importorskip("transformers")
PROMPT = "The film: <image>\nIs it dull? Never"
METHODS_OF_PICTURES = ("occlusion", "reciprocam", "tis", "vit_cx")
NUMBERS = {"heads": "mean"}


@pytest.fixture(scope="module", params=answers.KINDS)
def model(request, tmp_path_factory):
    return load(answers.saved(request.param, tmp_path_factory.mktemp("model")), dtype="float64")


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return load(answers.saved("Llava", tmp_path_factory.mktemp("llava")), dtype="float64")


def as_its_processor_says(model) -> dict[str, torch.Tensor]:
    """Of transformers' own processor, where it has one for the family."""
    kind = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    kind["vision_feature_select_strategy"] = getattr(model.net.net.config, "vision_feature_select_strategy", "default")
    made = t.LlavaProcessor(answers.processor(), answers.tokenizer(), **kind)
    found = made(images=picture(), text=PROMPT, return_tensors="pt")
    return {**found, "pixel_values": found["pixel_values"].double()}


def test_tokens_and_logits_are_those_of_the_processor_and_the_network(model):
    inputs = as_its_processor_says(model)
    language, seen = about(model, picture())
    windows = language.for_texts.windows(PROMPT)
    ids = windows.parts[0].inputs["input_ids"]
    assert ids.tolist() == inputs["input_ids"][0].tolist()
    assert len(windows.pictured) == 16 + seen.first
    assert not language.net.get_buffer("tokens").requires_grad
    assert (seen.rows, seen.columns, seen.first) == (4, 4, int(len(windows.pictured) == 17))
    with torch.no_grad():
        expected = model.net.net(**inputs).logits[:, -1]
        torch.testing.assert_close(language.net(ids[None]), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("propagation", ["average_matmul", "rollout_elementwise"])
def test_the_map_and_the_words_are_what_they_are_written_out_naively(model, propagation):
    options = {"propagation": propagation, **NUMBERS}
    inputs = as_its_processor_says(model)
    record = oracle.capture(model.net.net, inputs, lambda logits: logits[:, -1, 7])
    own = oracle.Record(record.logits, record.attentions[-3:])  # those before are of the tower for pictures
    N = inputs["input_ids"].shape[1]
    expected = oracle.relevance(own, first=0, tokens=N, **options)[0]
    seen, words = gradtoken.explain(picture(), model, 7, prompt=PROMPT, merge="pieces", **options)
    places = inputs["input_ids"][0].eq(model.prompts.number).nonzero()[:, 0]
    patches, others = expected[places[-16:]], [i for i in range(1, N) if i not in places.tolist()]
    assert expected.any()
    np.testing.assert_allclose(seen.relevance, patches.reshape(4, 4), rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(words.relevance, expected[others], rtol=1e-4, atol=1e-8)
    assert seen.logit == words.logit == pytest.approx(record.logits[0, -1, 7].item(), rel=1e-5)


def test_relevance_that_is_shared_out_is_kept(llava):
    """All tokens together: the map, the special tokens, the words with the sum of their pieces."""
    seen, words = gradtoken.explain(picture(), llava, 7, "attn_lrp", prompt=PROMPT, merge="sum", special=True)
    language, _ = about(llava, picture())
    inputs = {name: x[None] for name, x in language.for_texts(PROMPT).inputs.items()}
    R = gradtoken.attribute(language.net, inputs, 7, "attn_lrp")
    np.testing.assert_allclose(seen.relevance.sum() + words.relevance.sum(), R.sum(), rtol=1e-5)
    assert words.words.names[0] == "<s>"
    assert "<image>" not in words.words.names
    share = abs(seen.relevance).sum() / R.abs().sum().item()
    assert f"{100 * share:.1f} % of all magnitude is on the tokens of the picture" in seen.note


def test_words_are_slices_of_the_prompt_and_the_picture_is_where_it_says(llava):
    _, words = gradtoken.explain(picture(), llava, prompt=PROMPT, **NUMBERS)
    assert words.words.text == PROMPT
    assert words.words.names == ("The", "film", ":", "\n", "Is", "it", "dull", "?", "Never")
    _, front = gradtoken.explain(picture(), llava, prompt="Is it dull? Never", **NUMBERS)
    assert front.words.text == "<image>\nIs it dull? Never"
    ids = about(llava, picture())[0].for_texts(front.words.text).inputs["input_ids"].tolist()
    assert ids[1:17] == [llava.prompts.number] * 16 or ids[2:18] == [llava.prompts.number] * 16


def test_another_picture_gives_another_answer(llava):
    one, other = (gradtoken.explain(picture(seed), llava, 7, prompt=PROMPT, **NUMBERS) for seed in (0, 1))
    assert one[0].logit != other[0].logit
    assert not np.allclose(one[1].relevance, other[1].relevance)


def test_targets_methods_and_continuations_in_order(llava):
    found = gradtoken.explain(
        picture(), llava, [" film", " the film", None], ["gradtoken", "raw_attention"], prompt=PROMPT, heads="mean"
    )
    assert [one.words is None for one in found] == [True] * 6 + [False] * 6
    assert [one.method for one in found[:6]] == ["gradtoken"] * 3 + ["raw_attention"] * 3
    assert [one.name for one in found[:3]] == [one.name for one in found[6:9]]
    assert [one.name for one in found[:2]] == [" film", " the film"]
    language, _ = about(llava, picture())
    prompt, ids = language.for_texts.followed(PROMPT, " the film")
    given = language.for_texts.before(ids)(prompt).inputs["input_ids"]
    assert found[1].logit == pytest.approx(
        sum(
            language.net.logits_at(torch.tensor([[len(given) - len(ids) + i]]), given[None], None)
            .log_softmax(-1)[0, 0, c]
            .item()
            for i, c in enumerate(ids)
        ),
        rel=1e-6,
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_or_says_why(llava, method):
    if method in METHODS_OF_PICTURES:
        with pytest.raises(NoGrid, match="erases or mixes parts of a picture; expected inputs"):
            gradtoken.explain(picture(), llava, 7, method, prompt=PROMPT)
        return
    if method == "decompx":
        with pytest.raises(NoRule, match=r"only attention weights and the gates of sigmoid units count as constants"):
            gradtoken.explain(picture(), llava, 7, method, prompt=PROMPT)
        return
    seen, words = gradtoken.explain(picture(), llava, 7, method, prompt=PROMPT, allow_blank=True)
    assert seen.relevance.shape == (4, 4)
    assert words.relevance.shape == (9,)
    assert seen.relevance.any() or words.relevance.any()


def test_results_are_saved_and_read(llava, tmp_path):
    found = gradtoken.explain(picture(), llava, 7, prompt=PROMPT, **NUMBERS)
    for suffix in ("json", "npz"):
        seen, words = Explanations.load(found.save(tmp_path / f"a.{suffix}"), picture())
        assert np.array_equal(seen.relevance, found[0].relevance)
        assert words.words.names == found[1].words.names
    page = found.save(tmp_path / "a.html").read_text()
    assert 'class="heat"' in page
    assert 'class="words"' in page
    assert found[0].preprocessing == found[1].preprocessing
    assert {*found[0].preprocessing} == {"picture", "text"}
    assert found.save(tmp_path / "a.png").stat().st_size > 5000


def test_a_patch_of_the_picture_is_at_its_place(llava):
    """A network that looks at nothing but one patch: erased there, another answer; elsewhere the same."""
    language, seen = about(llava, picture())
    pixels = llava.for_pictures(picture()).pixels[None].double()
    tokens = language.net.get_buffer("tokens")
    for i, j in ((0, 0), (1, 2), (3, 3)):
        changed = pixels.clone()
        changed[..., 8 * i : 8 * i + 8, 8 * j : 8 * j + 8] *= -3
        with torch.no_grad():
            moved = (llava.net.tokens(changed) - tokens).square().sum(dim=2)[0, seen.patches]
        assert divmod(int(moved.argmax()), 4) == (i, j)


def test_bad_requests(llava, tmp_path):
    with pytest.raises(BadText, match="the text is empty; expected at least one word"):
        gradtoken.explain(picture(), llava, prompt=" ")
    with pytest.raises(BadText, match="finds no token in '<image>'; expected at least one word"):
        gradtoken.explain(picture(), llava, prompt="<image>")
    with pytest.raises(BadText, match="names 2 pictures with <image>; expected one"):
        gradtoken.explain(picture(), llava, prompt="<image> or <image>")
    with pytest.raises(BadText, match="more tokens than the 49 that are read beside the 16 of the picture; shorten it"):
        gradtoken.explain(picture(), llava, prompt="a film " * 100)
    with pytest.raises(BadTarget, match="windows= reads a text in parts, and a next token has one prompt"):
        gradtoken.explain(picture(), llava, prompt=PROMPT, windows=4)
    with pytest.raises(BadTarget, match=r"reads a text with each picture; give the text too: explain\(..., prompt=\)"):
        gradtoken.explain(picture(), llava)
    with pytest.raises(BadTarget, match=r"reads a text with each picture; give the text too: .*, --prompt"):
        gradtoken.compare(picture(), llava, 7, ["gradtoken"])
    with pytest.raises(BadPicture, match=r"no file 'missing\.jpg'"):
        gradtoken.explain("missing.jpg", llava, prompt=PROMPT)
    with pytest.raises(BadTarget, match="tiny reads texts and no text beside them; leave out prompt"):
        gradtoken.explain("no picture", texts.text_model(), prompt="a film")
    seen, words = gradtoken.explain(picture(), llava, 7, prompt=PROMPT, words=True, **NUMBERS)
    assert (seen.words, words.words is None) == (None, False), "words are there anyway"
    with pytest.raises(BadTarget, match="bundled reads pictures and no text beside them; leave out prompt"):
        gradtoken.explain(picture(), prompt="a film")


def test_folders_that_cannot_be_used(tmp_path):
    answers.saved("Llava", tmp_path)
    texts.tokenizer(answers.LENGTH).save_pretrained(tmp_path)
    with pytest.raises(BadModel, match=r"config\.json says image_token_id=\d+, which the tokenizer does not have"):
        load(tmp_path)


def test_a_module_in_hand_and_a_pipeline(llava, tmp_path):
    folder = answers.saved("Llava", tmp_path)
    net = t.LlavaForConditionalGeneration.from_pretrained(folder)
    one = gradtoken.explain(picture(), net, 7, prompt=PROMPT, **NUMBERS)[0]
    np.testing.assert_allclose(
        one.relevance, gradtoken.explain(picture(), llava, 7, prompt=PROMPT, **NUMBERS)[0].relevance, atol=1e-5
    )
    with pytest.raises(BadModel, match="LlavaForConditionalGeneration came without its tokenizer; save it and its"):
        load(answers.network("Llava"))


def test_the_shell(tmp_path):
    folder, file, out = answers.saved("Llava", tmp_path / "m"), tmp_path / "a.png", tmp_path / "both.json"
    picture().save(file)
    arguments = ["explain", str(file), "--model", str(folder), "--prompt", PROMPT, "--target", " film"]
    arguments += ["--method", "gradtoken", "--set", "heads=mean", "--out"]
    done = CliRunner().invoke(app, [*arguments, str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    seen, words = Explanations.load(out)
    assert (seen.name, seen.relevance.shape) == (" film", (4, 4))
    assert words.words.text == PROMPT
    assert CliRunner().invoke(app, [*arguments, str(tmp_path / "both.png")]).exit_code == 0
    alone = CliRunner().invoke(app, ["explain", str(file), "--model", str(folder)])
    assert alone.exit_code == 1
    for more, code, said in (
        (["--text", "a"], 1, "leave out --text and --resume"),
        (["--resume", "--out", str(tmp_path / "run")], 1, "leave out --text and --resume"),
        (["--check"], 2, "--prompt or --resume"),
    ):
        done = CliRunner().invoke(app, [*arguments[:-1], *more])
        assert (done.exit_code, said in " ".join(done.output.split())) == (code, True), done.output
