"""Words against human rationales written out naively: one document, piece, character and word at a time.

Sources: ERASER (arXiv:1911.03429) for the scores; the experiment of Chefer et al. (arXiv:2012.09838) for the pipeline:
the label is explained, what is negative is 0, a word has the highest of its characters' scores, the k highest words
are compared with all marked ones.
"""

from __future__ import annotations

import math

import torch

import gradtoken

from . import metrics as m

NAN = float("nan")


def parts(text):
    """Lower-case runs between blanks and punctuation, with the place of each. -> [(part, start, end)]"""
    found, start = [], None
    for i, c in enumerate(text + " "):
        alone = not c.isalnum()
        if alone and start is not None:
            found.append((text[start:i].lower(), start, i))
            start = None
        if alone and not c.isspace():
            found.append((c, i, i + 1))
        elif not alone and start is None:
            start = i
    return found


def wordpieces(text, vocab):
    """The longest known piece first; a part that has none is [UNK] whole. -> [(piece, start, end)]"""
    found = []
    for part, start, end in parts(text):
        pieces, at = [], 0
        while at < len(part):
            fitting = [b for b in range(at + 1, len(part) + 1) if ("##" if at else "") + part[at:b] in vocab]
            if not fitting:
                pieces = [("[UNK]", start, end)]
                break
            pieces.append((("##" if at else "") + part[at : max(fitting)], start + at, start + max(fitting)))
            at = max(fitting)
        found += pieces
    return found


def read(text, vocab, length):
    """What the model reads: [CLS], the pieces that fit, [SEP]. -> [(piece, start, end)], with -1, -1 for these two"""
    return [("[CLS]", -1, -1), *wordpieces(text, vocab)[: length - 2], ("[SEP]", -1, -1)]


def relevance(net, pieces, vocab, label, method, options):
    """Of each piece, alone and without padding."""
    ids = torch.tensor([[vocab[piece] for piece, _, _ in pieces]])
    inputs = {"input_ids": ids, "token_type_ids": 0 * ids, "attention_mask": 1 + 0 * ids}
    R = gradtoken.attribute(net, inputs, label, method, allow_blank=True, **options)
    return R[0].detach().tolist()


def word_scores(scores, pieces, words):
    """By the place of each piece in the text; a word of which nothing was read is NaN."""
    out, start = [], 0
    for word in words:
        own = []
        for score, (_, a, b) in zip(scores, pieces, strict=True):
            if any(a <= c < b for c in range(start, start + len(word))):
                own.append(max(score, 0.0))
        out.append(max(own) if own else NAN)
        start += len(word) + 1
    return out


def counted_scores(scores, pieces, words):
    """As the published pipeline has it: pieces without "##" are laid one after the other, words are counted off."""
    characters = []
    for score, (piece, _, _) in zip(scores, pieces, strict=True):
        if piece not in ("[CLS]", "[SEP]", "[UNK]", "[PAD]"):
            characters += [max(score, 0.0)] * len(piece.removeprefix("##"))
    out = []
    for word in words:
        own, characters = characters[: len(word)], characters[len(word) :]
        out.append(max(own) if own else NAN)
    return out


def document(net, vocab, length, sample, method, options, ks):
    """All values of one document by name."""
    words, marked = sample.truth.words, [bool(mark) for mark in sample.truth.marked]
    pieces = read(" ".join(words), vocab, length)
    scores = word_scores(relevance(net, pieces, vocab, sample.labels[0], method, options), pieces, words)
    cut = [math.isnan(score) for score in scores]
    return {
        "f1": [m.token_f1(scores, marked, k) for k in ks],
        "auprc": [m.auprc(scores, marked)],
        "words": [len(words), sum(marked)],
        "unread": [sum(cut), sum(a and b for a, b in zip(cut, marked, strict=True))],
    }


def numbers(documents, ks):
    """Means over documents; of F1 also over k = 10, 20, ..., 80."""
    tens = [i for i, k in enumerate(ks) if k % 10 == 0]
    count = len(documents)
    return {
        "token-F1, mean of k = 10 ... 80": sum(one["f1"][i] for one in documents for i in tens) / count / len(tens),
        "AUPRC": sum(one["auprc"][0] for one in documents) / count,
        "marked words not read": sum(d["unread"][1] for d in documents) / sum(d["words"][1] for d in documents),
    }


# ------------------------------------------------------------------------------------- erased and kept words


def probability(net, pieces, vocab, cls):
    """Of a class, for these pieces alone."""
    ids = torch.tensor([[vocab[piece] for piece, _, _ in pieces]])
    with torch.no_grad():
        y = net(input_ids=ids, token_type_ids=0 * ids, attention_mask=1 + 0 * ids).logits[0].tolist()
    top = max(y)
    return math.exp(y[cls] - top) / sum(math.exp(v - top) for v in y)


def word_of(piece, words):
    """Number of the word that a piece lies in, None for special ones."""
    start = 0
    for number, word in enumerate(words):
        if start <= piece[1] < start + len(word):
            return number
        start += len(word) + 1
    return None


def erasing(net, vocab, length, words, method, options, shares):
    """Fall of the predicted class's probability without the first words, and with them alone, by share.

    -> {"comprehensiveness": [mean], "sufficiency": [mean], "erased": [...], "kept": [...]}
    """
    pieces = read(" ".join(words), vocab, length)
    places = [word_of(piece, words) for piece in pieces]
    y = [probability(net, pieces, vocab, cls) for cls in range(2)]
    cls = y.index(max(y))
    scores = relevance(net, pieces, vocab, cls, method, options)
    best = {}
    for place, score in zip(places, scores, strict=True):
        if place is not None:
            best[place] = max(score, best.get(place, -math.inf))
    order = sorted(best, key=lambda place: (-best[place], place))
    falls = {"erased": [], "kept": []}
    for share in shares:
        first = order[: math.ceil(round(share * len(order), 6))]
        for name, left in (("erased", [p not in first for p in places]), ("kept", [p in first for p in places])):
            some = [piece for piece, place, on in zip(pieces, places, left, strict=True) if on or place is None]
            falls[name].append(y[cls] - probability(net, some, vocab, cls))
    means = {
        "comprehensiveness": [sum(falls["erased"]) / len(shares)],
        "sufficiency": [sum(falls["kept"]) / len(shares)],
    }
    return means | falls
