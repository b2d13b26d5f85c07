"""Texts as tokens with their places, and classifiers of texts from a folder."""

import shutil

import pytest
import torch

import gradtoken
from gradtoken.batch import checkup, compare_all
from gradtoken.errors import BadModel
from gradtoken.models.load import load
from gradtoken.models.text import Encode, encode_of
from tests import texts
from tests.reference import rationales as naive
from tests.zoo import shaken


@pytest.fixture
def folder(tmp_path):
    texts.bert(id2label={0: "NEG", 1: "POS"}).save_pretrained(tmp_path)
    texts.tokenizer().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", [one.input for one in texts.documents()] + ["", "  a \n\tfilm  ", "[SEP] a"])
def test_tokens_lie_where_the_naive_version_finds_them(text):
    encode = Encode(texts.tokenizer(), texts.LENGTH)
    found = encode(text)
    if "[SEP]" in text:  # which the tokenizer reads as its own
        assert found.spans == (None, (0, 5), (6, 7), None)
        return
    pieces = naive.read(text, texts.VOCAB, texts.LENGTH)
    assert found.inputs["input_ids"].tolist() == [texts.VOCAB[piece] for piece, _, _ in pieces]
    assert found.spans == tuple(None if start < 0 else (start, end) for _, start, end in pieces)
    assert found.truncated == (len(naive.wordpieces(text, texts.VOCAB)) > texts.LENGTH - 2)
    assert {name: (x.shape, x.dtype) for name, x in found.inputs.items()} == {
        name: ((len(pieces),), torch.int64) for name in ("input_ids", "token_type_ids", "attention_mask")
    }


def test_a_text_of_just_the_length_is_whole():
    encode = Encode(texts.tokenizer(), 5)
    assert not encode("a film is").truncated
    assert encode("a film is bad").truncated
    assert len(encode("a film is bad").spans) == 5


def test_padding_is_at_the_end_and_masked():
    encode = Encode(texts.tokenizer(), texts.LENGTH)
    found = encode.padded([encode("a film").inputs, encode("a").inputs])
    assert found["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert found["input_ids"][1].tolist() == [texts.VOCAB[token] for token in ("[CLS]", "a", "[SEP]", "[PAD]")]


def test_a_tokenizer_is_described_by_all_that_decides_its_tokens():
    one, other = texts.tokenizer(), texts.tokenizer()
    before = Encode(one, 9).describe()
    Encode(one, 9)("a film " * 9)  # which sets how it cuts off
    assert Encode(one, 9).describe() == before == Encode(other, 9).describe()
    other.add_tokens(["zzz"])
    assert Encode(other, 9).describe() != before


def test_tokenizers_that_cannot_be_used():
    slow, bare = texts.tokenizer(), texts.tokenizer()
    bare.pad_token = None
    with pytest.raises(BadModel, match="has no padding token, so texts cannot be batched; set its pad_token"):
        Encode(bare, 9)
    with pytest.raises(BadModel, match=r"a length above the 2 special tokens of \w+, got 2"):
        Encode(slow, 2)
    with pytest.raises(BadModel, match="does not say where in the text its tokens lie; expected a fast tokenizer"):
        Encode(Slow(), 9)


class Slow:
    is_fast = False

    def num_special_tokens_to_add(self) -> int:
        return 2


def test_loading_a_folder(folder):
    model = load(folder)
    assert model.preprocess.length == texts.LENGTH
    assert list(model.labels) == ["NEG", "POS"]
    assert not model.net.training
    encoded = model.for_texts("the film is bad")
    inputs = {name: x[None] for name, x in encoded.inputs.items()}
    R = gradtoken.attribute(model.net, inputs, 0)
    assert R.shape == (1, len(encoded.spans))
    assert load(model.net, preprocess=model.preprocess).preprocess is model.preprocess


FAMILIES = {
    "Roberta": {"max_position_embeddings": texts.LENGTH + 1},
    "DistilBert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "Electra": {"embedding_size": 16},
    "Albert": {"embedding_size": 8},
    "ModernBert": {"global_attn_every_n_layers": 1, "bos_token_id": 2, "eos_token_id": 3},
    "Llama": {},
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": texts.LENGTH},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_classifiers(tmp_path, family):
    t = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    size = {} if family in ("DistilBert", "GPT2") else size
    kept = {"max_position_embeddings": texts.LENGTH, "vocab_size": len(texts.VOCAB), "pad_token_id": 0, "num_labels": 2}
    config = getattr(t, f"{family}Config")(**size, **{**kept, **FAMILIES[family]})
    shaken(getattr(t, f"{family}ForSequenceClassification")(config)).double().save_pretrained(tmp_path)
    texts.tokenizer().save_pretrained(tmp_path)
    model = load(tmp_path, dtype="float64")
    assert model.preprocess.length == texts.LENGTH
    some = [model.for_texts(text) for text in ("never dull", "the film is not good . " * 8)]
    together = gradtoken.attribute(model.net, model.for_texts.padded([one.inputs for one in some]), 1, allow_blank=True)
    for one, R in zip(some, together, strict=True):
        alone = gradtoken.attribute(model.net, model.for_texts.padded([one.inputs]), 1, allow_blank=True)[0]
        torch.testing.assert_close(R[: len(alone)], alone)
        assert not R[len(alone) :].any()


def test_a_hub_name_from_the_cache(folder, tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr(pytest.importorskip("huggingface_hub.constants"), "HF_HUB_CACHE", str(cache))
    place = cache / "models--someone--tiny"
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text("0" * 40)
    shutil.copytree(folder, place / "snapshots" / ("0" * 40))
    assert load("someone/tiny").preprocess.length == texts.LENGTH


def test_the_shorter_length_counts(folder):
    texts.tokenizer(9).save_pretrained(folder)
    assert load(folder).preprocess.length == 9
    texts.tokenizer(10**30).save_pretrained(folder)
    assert load(folder).preprocess.length == texts.LENGTH


def test_positions_up_to_the_padding_token_are_not_used():
    t = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = t.RobertaConfig(**size, vocab_size=60, max_position_embeddings=20, pad_token_id=0)
    net = t.RobertaForSequenceClassification(config).eval()
    encode = encode_of(net, texts.tokenizer(10**30), "tiny")
    assert encode.length == 19
    inputs = encode("bad " * 40).inputs
    assert net(**{name: x[None] for name, x in inputs.items()}).logits.shape == (1, 2)


def test_folders_that_cannot_be_used(folder):
    texts.bert(pad_token_id=4).save_pretrained(folder)
    with pytest.raises(BadModel, match="the model's pad_token_id is 4, that of its tokenizer 0; set both to one token"):
        load(folder)
    texts.bert(vocab_size=40).save_pretrained(folder)
    with pytest.raises(BadModel, match=r"its tokenizer has \d+ tokens and the model 40; use the tokenizer that"):
        load(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(BadModel, match="transformers cannot load it as AutoTokenizer"):
        load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BadModel, match=r"no tokenizer \(tokenizer.json, vocab.txt, \.\.\.\) in .*; save it beside the"):
        load(folder)


def test_a_model_of_texts_without_its_tokenizer_is_refused():
    with pytest.raises(BadModel, match=r"for a model of texts gradtoken\.models\.text\.Encode\(tokenizer, length\)"):
        load(texts.bert())


def test_what_is_for_pictures_refuses_a_model_of_texts(folder):
    model = load(folder)
    for call in (
        lambda: gradtoken.compare("a film", model),
        lambda: compare_all(["a film"], model, {}),
        lambda: checkup(model),
    ):
        with pytest.raises(BadModel, match="reads texts; expected a model of pictures"):
            call()
