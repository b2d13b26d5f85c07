"""Tokenizers of every kind that classifiers of texts come with, learnt here from a few sentences."""

import pytest

from tests import texts

SENTENCES = [
    "The film was unforgettable, it isn't dull! Acted in 1997, un-likely 10/10.",
    "the actors never do bad plots; a very good plot is likely liked. the the the film film",
    "Ein schöner Film über Äpfel und Öfen. Été à la plage, déjà vu. 3.14 and 1,000",
    "Хороший фильм, очень хороший. सुन्दर फिल्म है。 電影很好看。映画はとても良い。 ภาพยนตร์ดีมาก",
    "فيلم جيد جدا. סרט טוב מאוד. 🙂 👍🏽 👩‍👩‍👧 good 🙂 film\nnew line\n\ttab",
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
NAMES = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def wordpiece(length: int = 64):
    """BERT, DistilBERT, ELECTRA: lower case, pieces of words, unknown words as one token."""
    return texts.tokenizer(length, learnt_from=SENTENCES)


def cased_wordpiece(length: int = 64):
    """The same with a vocabulary that knows few words, so that many are unknown."""
    return texts.tokenizer(length)


def byte_level(length: int = 64, prefix: bool = False, ends: bool = True):
    """RoBERTa, GPT-2, ModernBERT: pieces of bytes, blanks at the front of words."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(SENTENCES, trainer)
    if ends:
        sep, cls = ("</s>", SPECIAL.index("</s>")), ("<s>", SPECIAL.index("<s>"))
        made.post_processor = tokenizers.processors.RobertaProcessing(sep, cls, add_prefix_space=prefix)
    else:
        made.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    return wrapped(made, length)


def unigram(length: int = 64):
    """XLM-RoBERTa, ALBERT, T5, DeBERTa-v3: SentencePiece's unigrams after NFKC, a mark at the front of words."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.NFKC(), tokenizers.normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=300, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(SENTENCES, trainer)
    ends = [(token, SPECIAL.index(token)) for token in ("<s>", "</s>")]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return wrapped(made, length)


def byte_fallback(length: int = 64):
    """Llama, Mistral, Gemma: pieces of characters over the whole text, unknown ones as bytes, no end token."""
    tokenizers = pytest.importorskip("tokenizers")
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False)
    learnt = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    learnt.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    learnt.train_from_iterator(SENTENCES[:2], trainer)
    vocab, merges = learnt.get_vocab(), learned_merges(learnt)
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    made.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    d = tokenizers.decoders
    made.decoder = d.Sequence([d.Replace("▁", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    return wrapped(made, length)


def learned_merges(made) -> list[tuple[str, str]]:
    import json

    merges = json.loads(made.to_str())["model"]["merges"]
    return [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in merges]


def wrapped(made, length: int):
    t = pytest.importorskip("transformers")
    inputs = ["input_ids", "attention_mask"]
    return t.PreTrainedTokenizerFast(tokenizer_object=made, **NAMES, model_max_length=length, model_input_names=inputs)


KINDS = {
    "WordPiece": wordpiece,
    "WordPiece, few words": cased_wordpiece,
    "byte-level BPE": byte_level,
    "byte-level BPE, prefix": lambda length=64: byte_level(length, prefix=True),
    "byte-level BPE, no ends": lambda length=64: byte_level(length, ends=False),
    "unigram": unigram,
    "byte fallback": byte_fallback,
}
