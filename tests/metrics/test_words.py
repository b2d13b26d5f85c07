"""Word pieces to words, and words against rationales."""

import numpy as np
import pytest
import torch

from gradtoken.errors import MissingExtra
from gradtoken.metrics import words
from tests.metrics import cases
from tests.reference import metrics as naive

WORDS = ("an", "unforgettable", "film", "🙂", "!")
SPANS = [(0, 0), (0, 2), (3, 5), (5, 12), (12, 16), (17, 21), (22, 23), (0, 0)]


@cases.batches
def test_a_word_has_its_highest_piece(batch):
    R = torch.randn(batch, len(SPANS), dtype=torch.float64)
    cases.same(words.word_scores(R, SPANS, WORDS), [naive.word_scores(one.tolist(), SPANS, WORDS) for one in R])


def test_special_tokens_count_for_nothing_and_negatives_for_zero():
    R = torch.tensor([9.0, -1.0, 1.0, 3.0, 2.0, 0.5, 4.0, 9.0])
    cases.same(words.word_scores(R, SPANS, WORDS), [0.0, 3.0, 0.5, 4.0, np.nan])


def test_a_piece_across_words_belongs_to_both():
    cases.same(words.word_scores(torch.tensor([2.0, 1.0]), [(0, 4), (4, 5)], ("ab", "cd")), [2.0, 2.0])


def test_a_piece_with_the_space_after_a_word_is_not_of_the_next():
    cases.same(words.word_scores(torch.tensor([2.0, 1.0]), [(0, 3), (3, 5)], ("ab", "cd")), [2.0, 1.0])


def test_a_piece_without_characters_is_of_no_word():
    cases.same(words.word_scores(torch.tensor([2.0, 1.0]), [(1, 1), (0, 2)], ("ab",)), [1.0])


def test_f1_of_no_word_is_zero():
    assert words.token_f1([torch.full((2,), torch.nan)], [torch.tensor([False, False])], 3).tolist() == [0.0]


def test_a_text_of_nothing_but_special_tokens():
    assert words.word_scores(torch.ones(2), [(0, 0), (0, 0)], ("a", "b")).isnan().all()


def documents(batch):
    scores = [torch.randint(0, 4, (n,)).double() for n in range(3, 3 + batch)]
    scores[-1][1] = torch.nan
    return scores, [torch.rand(len(one)) < 0.4 for one in scores]


@cases.batches
@pytest.mark.parametrize("k", [1, 3, 80])
def test_f1_is_the_formula(batch, k):
    scores, marked = documents(batch)
    pairs = zip(scores, marked, strict=True)
    cases.same(words.token_f1(scores, marked, k), [naive.token_f1(a.tolist(), b.tolist(), k) for a, b in pairs])


@cases.batches
def test_auprc_is_the_formula(batch):
    scores, marked = documents(batch)
    pairs = zip(scores, marked, strict=True)
    cases.same(words.auprc(scores, marked), [naive.auprc(a.tolist(), b.tolist()) for a, b in pairs])


def test_auprc_is_not_average_precision():
    sklearn = pytest.importorskip("sklearn.metrics")
    score, mark = torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([True, False, True, False])
    precision, recall, _ = sklearn.precision_recall_curve(mark, score)
    found = float(words.auprc([score], [mark])[0])
    assert found == pytest.approx(sklearn.auc(recall, precision))
    assert found != pytest.approx(sklearn.average_precision_score(mark, score))


def test_f1_is_scikit_learns_on_the_chosen_words():
    sklearn = pytest.importorskip("sklearn.metrics")
    score, mark = torch.rand(30), torch.rand(30) < 0.3
    chosen = torch.zeros(30).bool()
    chosen[score.topk(10).indices] = True
    assert float(words.token_f1([score], [mark], 10)[0]) == pytest.approx(sklearn.f1_score(mark, chosen))


def test_texts_without_marked_or_read_words():
    score, none, every = torch.rand(4), torch.zeros(4).bool(), torch.ones(4).bool()
    unread = torch.full((4,), torch.nan)
    assert words.token_f1([score, unread], [none, every], 2).tolist() == [0.0, 0.0]
    assert words.token_f1([score], [every], 4).tolist() == [1.0]
    cases.same(words.auprc([score, score, unread], [none, every, every]), [np.nan, 1.0, 1.0])


def test_unread_words_count_as_missed():
    score, mark = torch.tensor([2.0, 1.0, torch.nan]), torch.tensor([True, False, True])
    assert words.token_f1([score], [mark], 1).tolist() == pytest.approx([2 / 3])


def test_earlier_words_go_first_among_equals():
    score = torch.ones(50)
    assert words.token_f1([score], [torch.arange(50) < 5], 5).tolist() == [1.0]


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtra, match=r"pip install 'gradtoken\[benchmark\]'"):
        words.auprc([torch.rand(2)], [torch.ones(2)])
