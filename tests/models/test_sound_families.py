"""Classifiers of sounds, loaded from folders: where tokens lie, GradToken written out naively, and explanations."""

import numpy as np
import pytest
import torch

import gradtoken
from gradtoken.errors import BadModel, BadSound, BadTarget, NoGrid
from gradtoken.models import sound
from gradtoken.models.load import load
from gradtoken.models.model import Model
from gradtoken.models.sounds import open_sound
from gradtoken.probe import Probe
from tests import sounds
from tests.reference import gradtoken as oracle
from tests.sounds import CLASSIFIERS, RATE, tone

FIRST = {"AST": 2}
GRID = {"AST": (3, 7), "Whisper": (1, 50)}
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


@pytest.fixture(scope="module", params=CLASSIFIERS)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def model(family, tmp_path_factory) -> Model:
    return load(sounds.saved(tmp_path_factory.mktemp("model"), CLASSIFIERS[family]()), dtype="float64")


@pytest.fixture(scope="module")
def ast(tmp_path_factory) -> Model:
    return load(sounds.saved(tmp_path_factory.mktemp("ast"), sounds.ast()), dtype="float64")


def pixels(model: Model, *made) -> torch.Tensor:
    return torch.stack([model.for_sounds(open_sound((one, RATE))).pixels for one in made]).double()


def test_the_tokens_are_found(family, model):
    probe = Probe(model.net, pixels(model, tone()), 0)
    assert len(probe.attention) == 3
    assert (probe.layout.rows, probe.layout.columns) == GRID.get(family, (1, 29))
    assert probe.layout.first == FIRST.get(family, 0)


def test_gradtoken_is_what_it_is_written_out_naively(family, model):
    x, target = pixels(model, tone(), tone(hertz=300, begin=0.2)), torch.tensor([0, 3])
    for options in ({}, {"heads": "mean", "propagation": "none"}):
        R = gradtoken.attribute(model.net, x, target, **options, allow_blank=True)
        own = {"inputs": {model.net.argument: model.net.unfold(x)}, "target": target}
        first = FIRST.get(family, 0)
        expected = oracle.gradtoken(model.net.net, **own, first=first, tokens=R[0].numel(), **options)
        torch.testing.assert_close(R.flatten(1), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("method", ["gradtoken", "rollout", "input_x_gradient"])
def test_a_batch_is_its_sounds_alone(model, method):
    options = {"heads": "mean"} if method == "gradtoken" else {}
    x = pixels(model, tone(), tone(hertz=3000, end=0.3), tone(hertz=200))
    together = gradtoken.attribute(model.net, x, 1, method, **options)
    for i in range(3):
        alone = gradtoken.attribute(model.net, x[i : i + 1], 1, method, **options)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-7, atol=1e-11)


def test_one_changed_patch_of_a_spectrogram_changes_its_token_alone(ast):
    """AST's patches overlap: patch i, j reads bins 10 i ... 10 i + 15 and frames 10 j ... 10 j + 15."""
    x = pixels(ast, tone())
    embed = ast.net.net.audio_spectrogram_transformer.embeddings
    before = embed(ast.net.unfold(x))
    for i in range(3):
        for j in range(7):
            changed = x.clone()
            changed[..., 10 * i + 6 : 10 * i + 10, 10 * j + 6 : 10 * j + 10] += 1  # which no other patch reads
            tokens = (embed(ast.net.unfold(changed)) != before).any(dim=2)[0].nonzero().flatten().tolist()
            assert tokens == [2 + 7 * i + j]
            heard = ast.for_sounds(open_sound((tone(), RATE)))
            top, left = cell(heard, 2 - i, j)  # rows of an explanation run downwards
            assert 10 * i <= top[0] < top[1] <= 10 * i + 16
            assert 10 * j <= left[0] < left[1] <= 10 * j + 16


def cell(heard: sound.Heard, row: int, column: int):
    """Bins and frames of a cell of the map, by its box on the picture."""
    x0, y0, x1, y1 = heard.shown(np.zeros((3, 7)))["box"]
    kept = heard.shown(np.zeros((3, 7)))["relevance"].shape[1]
    width, height = heard.picture.size
    bins = [36 * (1 - (y0 + (y1 - y0) * r / 3) / height) for r in (row + 1, row)]
    frames = [heard.length * (x0 + (x1 - x0) * c / kept) / width for c in (column, column + 1)]
    return np.round(bins, 9), np.round(frames, 9)


def test_changed_samples_change_the_tokens_that_read_them():
    """Frame j of wav2vec 2.0 reads samples 320 j ... 320 j + 399, and its cell lies inside them."""
    net, extractor = sounds.waves(feat_extract_norm="layer", do_stable_layer_norm=True)
    how = sound.Listen.of(net, extractor)
    heard = how(open_sound((tone(), RATE)))
    before = net.wav2vec2.feature_extractor(heard.pixels[0])
    pitch = heard.covered[1] / before.shape[2]
    for j in range(before.shape[2]):
        samples = heard.pixels[0].clone()
        samples[:, 320 * j + 80 : 320 * j + 320] += 1  # which no other frame reads
        after = net.wav2vec2.feature_extractor(samples)
        assert (after != before).any(dim=1)[0].nonzero().flatten().tolist() == [j]
        assert 320 * j <= pitch * j < pitch * (j + 1) <= 320 * j + 400 + 1e-9


def test_padding_is_left_out_and_told(ast):
    one = gradtoken.explain((tone(0.6), RATE), ast, "bell", heads="mean", propagation="none")
    R = gradtoken.attribute(ast.net, pixels(ast, tone(0.6)), 1, heads="mean", propagation="none")[0].numpy()
    assert one.relevance.shape == (3, 6)  # 58 of 76 frames are the sound, and cells are 76 / 7 frames wide
    np.testing.assert_allclose(one.relevance, R[::-1, :6], rtol=1e-5)
    assert one.axes.beyond == pytest.approx(np.abs(R[:, 6:]).sum() / np.abs(R).sum())
    x = pixels(ast, tone(0.6))
    assert (x[..., 58:] == x[0, 0, 0, 58]).all()
    assert not (x[..., 57] == x[0, 0, 0, 58]).any()
    assert one.axes.seconds == (0.0075, pytest.approx(0.5875))
    whole = gradtoken.explain((tone(2.0), RATE), ast, "bell", heads="mean")
    assert (whole.relevance.shape, whole.axes.beyond) == ((3, 7), 0)
    assert whole.note == "the first 0.775 of 2 s were read"


def test_high_pitch_is_above_and_late_is_right(ast):
    """The values of input x gradient, by autograd on the network's own input (B, frames, bins)."""
    one = gradtoken.explain((tone(0.6, 4000, begin=0.3), RATE), ast, 2, "input_x_gradient")
    own = ast.net.unfold(pixels(ast, tone(0.6, 4000, begin=0.3))).requires_grad_()
    (gradient,) = torch.autograd.grad(ast.net.net(own).logits[0, 2], own)
    np.testing.assert_allclose(one.relevance, (own * gradient)[0, :58].detach().T.flip(0), rtol=1e-4, atol=1e-9)
    grey = np.asarray(one.picture.convert("L"), float)
    row, column = np.unravel_index(grey.argmax(), grey.shape)
    assert one.axes.pitch((row + 0.5) / grey.shape[0]) == pytest.approx(4000, rel=0.1)
    assert one.axes.time((column + 0.5) / grey.shape[1]) > 0.29


@pytest.mark.parametrize("family_", ["wav2vec 2.0", "Whisper", "AST"])
def test_a_click_is_drawn_where_it_is(family_):
    net, extractor = CLASSIFIERS[family_]()
    samples = np.zeros(9600, np.float32)
    samples[4800] = 1
    heard = sound.Listen.of(net, extractor)(open_sound((samples, RATE)))
    columns = np.asarray(heard.picture.convert("L"), float).sum(axis=0)
    bright = (columns > columns.max() * 0.7).nonzero()[0]
    assert heard.axes.time((bright.mean() + 0.5) / heard.picture.width) == pytest.approx(0.3, abs=0.004)


def test_explanations_are_saved_and_read(ast, tmp_path):
    both = gradtoken.explain((tone(), RATE), ast, ["dog", "bell"], heads="mean")
    for suffix in ("json", "npz"):
        again = gradtoken.Explanations.load(both.save(tmp_path / f"both.{suffix}"), both[0].picture)
        for one, other in zip(both, again, strict=True):
            np.testing.assert_array_equal(one.relevance, other.relevance)
            assert (one.axes, one.box, one.note) == (other.axes, other.box, other.note)
    for suffix in ("png", "svg", "html"):
        assert both.save(tmp_path / f"both.{suffix}").stat().st_size > 5000
    drawing = (tmp_path / "both.svg").read_text()
    assert "kHz" in drawing
    assert "0.4 s" in drawing
    assert "on the padding behind the sound" in drawing
    page = (tmp_path / "both.html").read_text()
    assert "&quot;hertz&quot;" in page
    assert "2 kHz</span>" in page


def test_methods_side_by_side(ast):
    compared = gradtoken.compare((tone(), RATE), ast, "dog", ["rollout", "legrad", "input_x_gradient"])
    assert [one.relevance.shape for one in compared.explanations] == [(3, 6), (3, 6), (36, 58)]
    assert not compared.refusals


def test_files_at_other_rates_in_stereo(ast, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    soxr = pytest.importorskip("soxr")
    stereo = np.stack([tone(rate=44_100), tone(hertz=3000, rate=44_100)], axis=1)
    soundfile.write(tmp_path / "dog.wav", stereo, 44_100, subtype="FLOAT")
    one = gradtoken.explain(tmp_path / "dog.wav", ast, "dog", heads="mean")
    known = soxr.resample(stereo.mean(axis=1), 44_100, RATE)
    other = gradtoken.explain((known, RATE), ast, "dog", heads="mean")
    assert one.note == "mixed down from 2 channels; resampled from 44,100 to 16,000 Hz"
    assert one.source == str(tmp_path / "dog.wav")
    np.testing.assert_allclose(one.relevance, other.relevance, rtol=1e-3)


def test_silence_is_explained_and_said(model):
    one = gradtoken.explain((np.zeros(9600), RATE), model, 0, heads="mean", allow_blank=True)
    assert "silent" in one.note
    assert not np.asarray(one.picture).any()


def test_what_is_too_short_is_refused(family, model):
    with pytest.raises(BadSound, match=r"lasts 0.00625 s.*expected at least 0.0(25|45) s"):
        gradtoken.explain((tone()[:100], RATE), model)
    least = model.for_sounds.least
    if family == "WavLM":  # whose two tokens are too alike to be told apart
        with pytest.raises(NoGrid, match="1 x 2 grid"):
            gradtoken.explain((tone()[:least], RATE), model)
        return
    one = gradtoken.explain((tone()[:least], RATE), model, 0, heads="mean", allow_blank=True)
    assert one.relevance.shape == ((3, 1) if family == "AST" else (1, 2))


def test_a_very_long_sound_is_cut_and_it_is_said(ast):
    long = np.tile(tone(1.0), 700)
    one = gradtoken.explain((long, RATE), ast, 0, heads="mean")
    assert one.note == "the first 0.775 of 700 s were read"


def test_the_network_itself_takes_its_extractor(ast):
    net, extractor = sounds.ast()
    how = sound.Listen.of(net, extractor)
    own = load(net.double(), preprocess=how)
    one, other = (gradtoken.explain((tone(), RATE), m, "bell", heads="mean") for m in (own, ast))
    np.testing.assert_allclose(one.relevance, other.relevance, rtol=1e-4)
    t = pytest.importorskip("transformers")
    pipe = t.pipeline("audio-classification", model=net, feature_extractor=extractor)
    piped = gradtoken.explain((tone(), RATE), pipe, "bell", heads="mean")
    np.testing.assert_allclose(one.relevance, piped.relevance, rtol=1e-4)
    with pytest.raises(BadModel, match=r"of sounds gradtoken.models.sound.Listen"):
        load(net)


def test_what_does_not_belong_together_is_refused(ast, tmp_path):
    t = pytest.importorskip("transformers")
    net, _ = sounds.ast()
    with pytest.raises(BadModel, match="36 x 76 at 16000"):
        sound.Listen.of(net, t.ASTFeatureExtractor(num_mel_bins=36, max_length=99))
    with pytest.raises(BadModel, match="reads 16 x 100"):
        sound.Listen.of(sounds.whisper()[0], t.WhisperFeatureExtractor())
    with pytest.raises(BadModel, match="SeamlessM4TFeatureExtractor, which is not one of AST"):
        sound.Listen.of(net, t.SeamlessM4TFeatureExtractor())
    sounds.saved(tmp_path, [net])
    with pytest.raises(BadModel, match="save the feature extractor beside the model"):
        load(tmp_path)
    with pytest.raises(BadModel, match="reads sounds; expected a model of pictures"):
        ast.for_pictures  # noqa: B018
    with pytest.raises(BadModel, match="reads sounds; expected a model of texts"):
        ast.for_texts  # noqa: B018
    with pytest.raises(BadTarget, match=r"are for texts, and .* reads sounds"):
        gradtoken.explain((tone(), RATE), ast, windows=3)
    with pytest.raises(BadModel, match="reads pictures; expected a model of sounds"):
        load("bundled").for_sounds  # noqa: B018


def test_networks_without_a_classification_head_are_refused(tmp_path):
    t = pytest.importorskip("transformers")
    net = t.Wav2Vec2Model(t.Wav2Vec2Config(**sounds.WAVES))
    sounds.saved(tmp_path, [net, t.Wav2Vec2FeatureExtractor()])
    with pytest.raises(BadModel, match=r"no image classification head .* nor one for texts, sounds or films"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["AST", "wav2vec 2.0", "Whisper"])
def test_every_method_runs_or_says_why(name):
    from gradtoken.manual import obstacles

    net, extractor = CLASSIFIERS[name]()
    how = sound.Listen.of(net, extractor)
    with torch.no_grad():
        probe = Probe(how.wrapped(net), how.noise(torch.Generator().manual_seed(0)), 0)
    found = {method: reason for method, reason in obstacles(probe).items() if reason}
    if name == "wav2vec 2.0":  # whose first convolution is followed by a group norm
        assert all("no relevance rule for torch.nn.functional.group_norm" in reason for reason in found.values())
        assert set(found) == {"abs_lrp", "attn_lrp", "cp_lrp", "libra", "lrp", "partial_lrp", "transattrib"}
    else:
        assert not found


def test_the_shell(ast, tmp_path):
    from typer.testing import CliRunner

    from gradtoken.cli import app

    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / "in" / name, tone(), RATE)
    (tmp_path / "in" / "broken.wav").write_bytes(b"nothing")
    folder = str(sounds.saved(tmp_path / "model", sounds.ast()))
    how = ["--model", folder, "--target", "bell", "--method", "gradtoken", "--set", "heads=mean"]
    done = CliRunner().invoke(
        app, ["explain", str(tmp_path / "in"), *how, "--out", str(tmp_path / "out"), "--format", "npz"]
    )
    assert done.exit_code == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-gradtoken.npz", "b-gradtoken.npz"]
    assert "broken.wav: BadSound" in done.stderr
    one = CliRunner().invoke(app, ["explain", str(tmp_path / "in" / "a.wav"), *how, "--out", str(tmp_path / "a.json")])
    assert one.exit_code == 0
    assert gradtoken.Explanation.load(tmp_path / "a.json").name == "bell"
    told = CliRunner().invoke(app, ["doctor", "--model", folder])
    assert "36 x 76 values" in told.stdout
