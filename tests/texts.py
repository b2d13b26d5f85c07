"""A tiny classifier of texts with random weights, its WordPiece tokenizer, and documents with a rationale."""

import numpy as np
import pytest

from gradtoken.data.sample import DataSet, Rationale, Sample
from gradtoken.models.labels import Labels
from gradtoken.models.model import Model
from gradtoken.models.text import Encode
from tests.zoo import shaken

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = """
the a film is not it was un ##forgettable ##like ##ly ##s ##d good bad plot act ##ing ##or ##ed never do n t dull
, . ! ? ' - ( ) 1 2 9 ##9 ##7 ##0 10 so very
"""
VOCAB = {piece: i for i, piece in enumerate([*SPECIAL, *PIECES.split()])}
TEXT = (
    "The film was UNFORGETTABLE , it is n't dull ! acted in 1997 , un-likely 10/10 . the actors do zzz ( never ) bads"
)
LENGTH = 24


def tokenizer(length: int = LENGTH, learnt_from=()):
    """learnt_from: texts whose word pieces are known instead."""
    t, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece({} if learnt_from else VOCAB, unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    if learnt_from:
        trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=1500, special_tokens=SPECIAL, show_progress=False)
        made.train_from_iterator(learnt_from, trainer)
    ends = [(token, VOCAB[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return t.PreTrainedTokenizerFast(tokenizer_object=made, **names, model_max_length=length, model_input_names=inputs)


def bert(length: int = LENGTH, classes: int = 2, **options):
    t = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    kept = {"max_position_embeddings": length, "num_labels": classes, "vocab_size": len(VOCAB), **options}
    return shaken(t.BertForSequenceClassification(t.BertConfig(**size, **kept)))


def text_model(length: int = LENGTH, classes: int = 2, names=None) -> Model:
    """float64, so that nothing hangs on the last digit."""
    labels = None if names is None else Labels.of(names)
    return Model(bert(length, classes).double(), "tiny", Encode(tokenizer(length), length), labels, "random")


def document(id: str, text: str, marked, label: int = 1) -> Sample:
    """marked: numbers of the words that are."""
    words = tuple(text.split())
    marks = np.isin(np.arange(len(words)), list(marked))
    return Sample(id, " ".join(words), (label,), Rationale(words, marks))


def documents() -> list[Sample]:
    """Unknown words, punctuation, numbers, pieces, a text that is too long, one word."""
    return [
        document("all", TEXT, [3, 4, 9], 1),
        document("long", "the film is not good . " * 8, [2, 3, 4, 40, 41], 0),
        document("short", "never dull", [1], 0),
        document("word", "good", [0], 1),
        document("unknown", "ÉTÉ zzz 🙂 xyz", [0, 2], 1),
        document("fits", " ".join(["bad", "film"] * 11), [5, 6, 21], 0),
    ]


def data_of(samples: list[Sample], classes=("NEG", "POS")) -> DataSet:
    return DataSet("made here", [sample.id for sample in samples], samples.__getitem__, classes)
