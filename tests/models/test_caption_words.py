"""Words of captions, for every tokenizer of a text tower: slices that hold every letter, or a refusal."""

import functools
import itertools

import pytest

from gradtoken.errors import BadText
from gradtoken.models.captions import Captions
from gradtoken.pieces import Grouping
from gradtoken.words import words_in
from tests import towers
from tests.test_words import SAMPLES, texts_of

hypothesis = pytest.importorskip("hypothesis")
KINDS = ("CLIP", "SigLIP 2", "SigLIP", "open_clip")
LENGTH = 77


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizers")


@functools.cache
def captions(kind: str, folder) -> Captions:
    if kind == "open_clip":
        return Captions(pytest.importorskip("open_clip").SimpleTokenizer(), LENGTH)
    made = {"CLIP": towers.clip_tokenizer, "SigLIP 2": towers.unigram, "SigLIP": lambda: towers.slow(folder / "slow")}
    tokenizer = made[kind]()
    tokenizer.model_max_length = LENGTH
    return Captions(tokenizer, LENGTH, fixed=kind.startswith("SigLIP"))


def placed(kind: str, folder, text: str) -> Grouping | None:
    """The words of a caption, or None where it is refused in words."""
    try:
        windows = captions(kind, folder).windows(text)
    except BadText as error:
        said = str(error)
    else:
        return Grouping.of(text, windows.tokens, "sum", special=False)
    assert any(
        part in said for part in ("a caption is empty", "is not found in the caption", "more tokens than the 77")
    )
    return None


@pytest.mark.filterwarnings("ignore:This sequence already has </s>:UserWarning")  # of the tokenizer, where a text does
@pytest.mark.parametrize("kind", KINDS)
@hypothesis.given(text=texts_of)
@hypothesis.example(text="</s>")
@hypothesis.example(text="\x1b")
@hypothesis.settings(
    deadline=None, max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_words_are_slices_that_hold_every_letter(kind, folder, text):
    found = placed(kind, folder, text)
    if found is None:
        return
    spans = found.words.spans
    assert all(b <= a for (_, b), (a, _) in itertools.pairwise(spans)), "words do not overlap"
    assert all(name == text[slice(*span)] for name, span in zip(found.words.names, spans, strict=True))
    starts = {a for a, _ in words_in(text)}
    assert all(a in starts or not words_in(text[a:b]) for a, b in spans), "words begin where those of the text do"
    if kind in ("SigLIP", "open_clip"):  # whose places are found by decoding; the others tell what they leave out
        inside = "".join(text[a:b] for a, b in spans)
        assert [c for c in text if c.isalnum()] == [c for c in inside if c.isalnum()]


@pytest.mark.parametrize("kind", KINDS)
def test_what_can_be_placed_of_any_script(kind, folder):
    """Plain letters always; other scripts where the tokenizer gives them back."""
    plain = placed(kind, folder, "a photo of a DOG")
    assert plain is not None
    assert plain.words.names == ("a", "photo", "of", "a", "DOG")
    for text in SAMPLES:
        found = placed(kind, folder, text)
        assert found is None or found.words.names
