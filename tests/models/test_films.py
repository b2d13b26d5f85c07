"""Classifiers of films, loaded from folders: which tubelet a value is of, GradToken written out naively, GIFs."""

import numpy as np
import pytest
import torch
from PIL import Image

import gradtoken
from gradtoken.errors import BadModel, BadPicture, NoAttention, NoGrid
from gradtoken.folded import as_clips, as_pictures
from gradtoken.models.films import open_film
from gradtoken.models.load import load
from gradtoken.models.model import Model
from gradtoken.probe import Probe
from tests.reference import gradtoken as oracle
from tests.zoo import shaken

t = pytest.importorskip("transformers")
SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
FILM = SIZE | {"num_frames": 4, "image_size": 32, "num_labels": 3, "id2label": {0: "run", 1: "jump", 2: "sit"}}
MASKED = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
FAMILIES = {
    "VideoMAE": lambda: (
        t.VideoMAEForVideoClassification(t.VideoMAEConfig(**FILM, patch_size=8)),
        t.VideoMAEImageProcessor(**MASKED),
    ),
    "ViViT": lambda: (
        t.VivitForVideoClassification(t.VivitConfig(**FILM, tubelet_size=[2, 8, 8])),
        t.VivitImageProcessor(**MASKED),
    ),
}
FIRST = {"VideoMAE": 0, "ViViT": 1}


def frames(count: int = 9, size: tuple[int, int] = (60, 40)) -> list[Image.Image]:
    """A light square that moves over noise; each frame has its number in its first pixel's red."""
    noise = np.random.default_rng(0).integers(0, 90, (count, size[1], size[0], 3)).astype(np.uint8)
    for n in range(count):
        noise[n, 10:20, 4 * n + 5 : 4 * n + 15] = 250
        noise[n, :4, :4] = (20 * n, 0, 0)
    return [Image.fromarray(frame) for frame in noise]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    torch.manual_seed(0)
    net, processor = FAMILIES[family]()
    place = tmp_path_factory.mktemp(family)
    shaken(net).save_pretrained(place)
    processor.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def model(folder) -> Model:
    return load(folder, dtype="float64")


def clips(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_layout_and_back():
    x = clips()
    folded = as_pictures(x, 2)
    assert folded.shape == (2, 6, 64, 32)
    assert torch.equal(folded[:, 3:, 32:], x[:, 3])  # the last frame: second of its moment, at the bottom
    assert torch.equal(as_clips(folded, 2, 2), x)


def test_one_changed_tubelet_changes_its_token_alone(family, model):
    x, net = clips(1), model.net.net
    embed = (net.videomae if family == "VideoMAE" else net.vivit).embeddings.patch_embeddings
    layout = Probe(model.net, as_pictures(x, 2), 0).layout
    assert (layout.first, layout.rows, layout.columns) == (FIRST[family], 2 * 4, 4)
    before = embed(x)
    for moment in range(2):
        for i in range(4):
            for j in range(4):
                changed = x.clone()
                changed[:, 2 * moment + 1, :, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8] += 1
                tokens = (embed(changed) != before).any(dim=2)[0].nonzero().flatten().tolist()
                assert tokens == [moment * 16 + 4 * i + j]


def test_attribute_is_what_it_is_written_out_naively(family, model):
    x, target = clips(), torch.tensor([0, 2])
    for inputs in (x, {"pixel_values": x}):
        R = gradtoken.attribute(model.net.net, inputs, target, heads="mean")
        assert R.shape == (2, 2, 4, 4)
        expected = oracle.gradtoken(model.net.net, x, target, first=FIRST[family], tokens=32, heads="mean")
        torch.testing.assert_close(R.flatten(1), expected, rtol=1e-8, atol=1e-12)


def test_a_batch_is_its_films_alone(model):
    for method in ("legrad", "input_x_gradient"):
        together = gradtoken.attribute(model.net.net, clips(), 1, method)
        alone = [gradtoken.attribute(model.net.net, one[None], 1, method) for one in clips()]
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-7, atol=1e-11)
    several = gradtoken.attribute(model.net.net, clips(), [[0, 1], [1, 2]], "legrad")
    assert several.shape == (2, 2, 2, 4, 4)


def test_frames_are_prepared_as_the_library_does(family, model):
    chosen = open_film(frames(), 4)
    pixels = model.for_films(chosen).pixels
    own = FAMILIES[family]()[1]
    if family == "VideoMAE":
        own = t.models.videomae.image_processing_pil_videomae.VideoMAEImageProcessorPil(**MASKED)
    expected = own(list(chosen.frames), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(as_clips(pixels[None], 2, 2), expected, rtol=0, atol=2e-5)


def test_an_explanation_of_each_moment(model):
    found = gradtoken.explain(frames(), model, ["run", "sit"], heads="mean")
    assert [one.name for one in found] == ["run", "sit"] * 2
    assert [one.source for one in found] == ["film, frame 0"] * 2 + ["film, frame 5"] * 2
    assert found[0].note == "4 of 9 frames, 2 to a map"
    assert [np.asarray(one.picture)[0, 0, 0] for one in found] == [0, 0, 100, 100]
    x = as_clips(model.for_films(open_film(frames(), 4)).pixels[None], 2, 2).double()
    R = gradtoken.attribute(model.net.net, x, [[0, 2]], heads="mean")[0].numpy()
    for i, one in enumerate(found):
        np.testing.assert_allclose(one.relevance, R[i % 2, i // 2], rtol=1e-4)
    assert found[0].box == (14, 4, 46, 36)  # the middle, as much as the network sees


def test_a_gif_has_a_frame_for_each_moment_with_one_scale(model, tmp_path):
    found = gradtoken.explain(frames(), model, ["run", "sit"], heads="mean")
    with Image.open(found.save(tmp_path / "film.gif")) as gif:
        assert (gif.n_frames, gif.size) == (2, (960, 320))
    assert found.save(tmp_path / "film.png").stat().st_size > 5000
    again = gradtoken.Explanations.load(found.save(tmp_path / "film.json"))
    assert [one.source for one in again] == [one.source for one in found]


def test_films_from_everywhere(tmp_path):
    made = frames()
    made[0].save(tmp_path / "film.gif", save_all=True, append_images=made[1:], duration=50)
    made[0].save(tmp_path / "film.webp", save_all=True, append_images=made[1:], lossless=True)
    (tmp_path / "film").mkdir()
    for n, frame in enumerate(made):
        frame.save(tmp_path / "film" / f"{n:03}.png")
    for source in (made, [np.asarray(f) for f in made], *(tmp_path / n for n in ("film.gif", "film.webp", "film"))):
        film = open_film(source, 4)
        assert (film.numbers, film.total) == ((0, 3, 5, 8), 9)
        assert [np.asarray(f)[1, 1, 0] for f in film.frames] == pytest.approx([0, 60, 100, 160], abs=12)
    film = open_film((tmp_path / "film.gif").read_bytes(), 4)
    assert film.total == 9


def test_a_video(tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        for n in range(9):
            image = Image.new("RGB", (64, 48), (25 * n, 25 * n, 25 * n))
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    film = open_film(tmp_path / "film.mp4", 4)
    assert (film.numbers, film.total) == ((0, 3, 5, 8), 9)
    assert [np.asarray(f).mean() for f in film.frames] == pytest.approx([0, 75, 125, 200], abs=6)
    (tmp_path / "bad.mp4").write_bytes(b"nothing of the kind")
    with pytest.raises(BadPicture, match="is no video that can be read"):
        open_film(tmp_path / "bad.mp4", 4)


def test_what_is_no_film_is_refused(tmp_path, model):
    frames(1)[0].save(tmp_path / "still.gif")
    with pytest.raises(BadPicture, match="at least 2 frames, got 1"):
        gradtoken.explain(tmp_path / "still.gif", model)
    with pytest.raises(BadPicture, match="expected a folder of frames, an animated picture or a video"):
        open_film(tmp_path / "missing.mp4", 4)
    with pytest.raises(BadPicture, match="is no animated picture"):
        open_film(b"nothing", 4)
    with pytest.raises(BadPicture, match="frames of one size, got 50 x 40 and 60 x 40"):
        open_film([*frames(3), *frames(3, (50, 40))], 4)
    with pytest.raises(BadPicture, match="got float"):
        open_film(1.5, 4)
    with pytest.raises(BadModel, match="watches films; expected a model of pictures"):
        gradtoken.compare(frames()[0], model)
    with pytest.raises(BadModel, match="expected a model of films"):
        load("bundled").for_films  # noqa: B018


def test_few_frames_are_read_twice():
    assert open_film(frames(2), 4).numbers == (0, 0, 1, 1)


def test_divided_attention_is_refused(tmp_path):
    """TimeSformer's attentions are over the patches of one frame, or over one patch of all frames."""
    net = shaken(t.TimesformerForVideoClassification(t.TimesformerConfig(**FILM, patch_size=8)))
    with pytest.raises((NoAttention, NoGrid), match="windows or"):
        gradtoken.attribute(net.double(), clips(1), 0)


def test_every_method_runs_or_says_why(family, model):
    from gradtoken.manual import obstacles

    probe = Probe(model.net, model.for_films.noise(torch.Generator().manual_seed(0)).double(), 0)
    found = {method: reason for method, reason in obstacles(probe).items() if reason}
    assert set(found) == ({"decompx"} if family == "ViViT" else set())  # a GELU written out as products
    assert all("which are all made of tokens" in reason for reason in found.values())


def test_the_shell(folder, tmp_path):
    from typer.testing import CliRunner

    from gradtoken.cli import app

    made = frames()
    made[0].save(tmp_path / "film.gif", save_all=True, append_images=made[1:], duration=50)
    out = tmp_path / "map.gif"
    how = ["--model", str(folder), "--target", "jump", "--method", "legrad", "--out", str(out)]
    done = CliRunner().invoke(app, ["explain", str(tmp_path / "film.gif"), *how])
    assert done.exit_code == 0, done.output
    with Image.open(out) as gif:
        assert gif.n_frames == 2
