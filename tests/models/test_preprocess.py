import json

import numpy as np
import pytest
import torch
from PIL import Image

from gradtoken.errors import BadModel, BadPicture
from gradtoken.models.preprocess import Preprocess
from gradtoken.models.recipes import from_open_clip, from_timm, from_torchvision, from_transformers

SIZES = [(97, 61), (61, 97), (80, 80), (300, 113), (113, 301), (64, 48), (20, 9), (48, 48)]  # width, height


def noise(size: tuple[int, int]) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def ramp(size: tuple[int, int]) -> Image.Image:
    """Red grows along x, green along y, from 0 to 255 over the picture."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width] + 0.5
    return Image.fromarray((np.stack([x / width, y / height, x * 0], axis=-1) * 255).astype(np.uint8))


def check_same(preprocess: Preprocess, transform, size: tuple[int, int]) -> None:
    """Equal to the library's tensor within 1e-6, and the box says where on the picture each column and row lies."""
    ours, theirs = preprocess(noise(size)), transform(noise(size))
    assert ours.pixels.shape == theirs.shape
    assert (ours.pixels - theirs).abs().max() <= 1e-6
    assert ours.pixels.dtype == torch.float32
    assert ours.pixels.is_contiguous()
    json.dumps(preprocess.describe())
    check_box(preprocess, size)


def check_box(preprocess: Preprocess, size: tuple[int, int]) -> None:
    width, height = size
    view = preprocess(ramp(size))
    pixels = (
        view.pixels * torch.tensor(preprocess.std)[:, None, None] + torch.tensor(preprocess.mean)[:, None, None]
    ) * 255
    x0, y0, x1, y1 = view.box
    rows, columns = preprocess.size
    x = x0 + (torch.arange(columns) + 0.5) / columns * (x1 - x0)  # where the box puts each column
    y = y0 + (torch.arange(rows) + 0.5) / rows * (y1 - y0)
    inside_x, inside_y = (x > 0.1 * width) & (x < 0.9 * width), (y > 0.1 * height) & (y < 0.9 * height)
    step = 255 * max(1 / width, 1 / height) + 3 * 255 * preprocess.scale  # a pixel, and rounding
    shown = pixels[:, inside_y][:, :, inside_x]
    assert (shown[0] - 255 * x[inside_x] / width).abs().max() < step
    assert (shown[1] - 255 * y[inside_y, None] / height).abs().max() < step


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"crop_pct": 1.0, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        {"crop_pct": 0.9, "interpolation": "bilinear"},
        {"crop_pct": 0.95, "crop_mode": "squash"},
        {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "lanczos"},
        {"crop_pct": 1.0, "crop_mode": "border"},
        {"crop_pct": 0.8, "crop_mode": "border", "interpolation": "nearest"},
        {"input_size": (3, 40, 56)},
        {"input_size": (3, 56, 40), "crop_pct": 0.9, "crop_mode": "border"},
        {"input_size": (3, 56, 40), "crop_pct": 0.9, "crop_mode": "squash", "interpolation": "box"},
    ],
)
def test_timm(config, size):
    timm = pytest.importorskip("timm")
    config = timm.data.resolve_data_config({"input_size": (3, 48, 48), **config})
    check_same(from_timm(config), timm.data.create_transform(**config), size)


def processors():
    common = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    square, edge = {"height": 48, "width": 48}, {"shortest_edge": 56}
    crop = {"do_center_crop": True, "crop_size": square}
    return [
        ("ViT", {**common, "size": square}),
        ("ViT", {**common, "size": {"height": 40, "width": 56}, "resample": 3}),
        ("ViT", {"size": square, "do_normalize": False}),
        ("ViT", {"size": square, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}),
        ("ViT", {"size": square, "rescale_factor": 1 / 127.5, "resample": 0}),
        ("DeiT", {**common, "size": {"height": 55, "width": 55}, **crop}),
        ("DeiT", {**common, "do_resize": False, **crop}),
        ("CLIP", {**common, "size": edge, **crop}),
        ("CLIP", {**common, "size": {"shortest_edge": 41}, **crop, "resample": 1}),
        ("Bit", {**common, "size": edge, **crop}),
        ("Siglip", {**common, "size": square}),
        ("Beit", {**common, "size": square, "do_center_crop": False}),
        ("Beit", {**common, "size": {"height": 57, "width": 57}, **crop}),
        ("Pvt", {**common, "size": square}),
        ("Segformer", {**common, "size": square}),
        ("MobileNetV1", {**common, "size": edge, **crop}),
        ("ConvNext", {**common, "size": {"shortest_edge": 48}, "crop_pct": 0.875}),
        ("ConvNext", {**common, "size": {"shortest_edge": 384}}),
    ]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kind", "options"), processors())
def test_transformers(kind, options, size):
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, f"{kind}ImageProcessorPil")(**options)

    def transform(image: Image.Image) -> torch.Tensor:
        return processor(image, return_tensors="pt")["pixel_values"][0].float()

    preprocess = from_transformers(processor.to_dict())
    if options.get("do_rescale") is False or options.get("rescale_factor"):  # other units, so no ramp
        assert (preprocess(noise(size)).pixels - transform(noise(size))).abs().max() <= 1e-6
    else:
        check_same(preprocess, transform, size)


@pytest.mark.parametrize("kind", ["ViT", "CLIP", "ConvNext", "Siglip", "Beit", "Bit", "DeiT"])
def test_transformers_default_settings_through_a_saved_file(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    getattr(transformers, f"{kind}ImageProcessor")().save_pretrained(tmp_path)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    theirs = processor(noise((131, 90)), return_tensors="pt")["pixel_values"][0]
    ours = from_transformers(processor.to_dict())(noise((131, 90))).pixels
    assert (ours - theirs).abs().max() <= 1e-6


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options",
    [{}, {"resize_size": 48}, {"resize_size": 41, "interpolation": "bicubic"}, {"interpolation": "nearest"}],
)
def test_torchvision(options, size):
    presets = pytest.importorskip("torchvision.transforms._presets")
    modes = pytest.importorskip("torchvision.transforms").InterpolationMode
    interpolation = modes(options.get("interpolation", "bilinear"))
    transform = presets.ImageClassification(
        **{"crop_size": 48, "resize_size": 56, **options, "interpolation": interpolation}
    )
    check_same(from_torchvision(transform), transform, size)


@pytest.mark.parametrize("name", ["ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1", "Swin_V2_T_Weights.DEFAULT"])
def test_torchvision_published_presets(name):
    models = pytest.importorskip("torchvision.models")
    transform = models.get_weight(name).transforms()
    check_same(from_torchvision(transform), transform, (301, 233))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("options", [{}, {"interpolation": "bilinear", "fill_color": 9}, {"size": (40, 56)}])
def test_open_clip(mode, options, size):
    transform = pytest.importorskip("open_clip.transform")
    config = transform.PreprocessCfg(**{"size": 48, "resize_mode": mode, **options})
    theirs = transform.image_transform_v2(config, is_train=False)
    check_same(from_open_clip(vars(config)), theirs, size)


def test_box_of_a_squashed_picture_is_the_picture():
    view = Preprocess((10, 10))(noise((97, 61)))
    assert view.box == (0, 0, 97, 61)


def test_box_of_a_crop_lies_inside_and_of_padding_outside():
    crop = Preprocess((10, 10), resize="shortest")(noise((40, 20)))
    assert crop.box == (10, 0, 30, 20)
    padded = Preprocess((10, 10), resize="longest", rounding="round")(noise((40, 20)))
    assert padded.box[0::2] == (0, 40)
    assert padded.box[1] < 0 < 20 < padded.box[3]


def test_padding_has_the_fill_colour():
    preprocess = Preprocess((4, 4), resize="longest", mean=(0, 0, 0), std=(1, 1, 1), fill=(255, 0, 51))
    view = preprocess(Image.new("RGB", (8, 4)))
    assert view.pixels[:, 0, 0].tolist() == pytest.approx([1, 0, 0.2])
    assert view.pixels[:, 2, 0].tolist() == [0, 0, 0]


def test_other_colour_modes_are_converted():
    grey = noise((20, 10)).convert("L")
    preprocess = Preprocess((8, 8))
    assert torch.equal(preprocess(grey).pixels, preprocess(grey.convert("RGB")).pixels)


def test_one_pixel_and_extreme_shapes():
    assert Preprocess((8, 8), resize="shortest")(noise((1, 1))).pixels.shape == (3, 8, 8)
    with pytest.raises(
        BadPicture, match=r"a picture of 4000 x 1 pixels would be resized to 896000 x 224 by .*less extreme"
    ):
        Preprocess((224, 224), resize="shortest")(noise((4000, 1)))
    with pytest.raises(BadPicture, match=r"less extreme shape"):
        Preprocess((8, 8), resize="longest", rounding="round")(noise((4000, 1)))


def test_the_default_device_does_not_matter():
    image = Image.new("RGB", (20, 10), (10, 20, 30))
    with torch.device("meta"):
        view = Preprocess((8, 8))(image)
    torch.testing.assert_close(view.pixels, Preprocess((8, 8))(image).pixels)


def test_describe_is_json_and_complete():
    preprocess = Preprocess((8, 16), resize="longest")
    told = json.loads(json.dumps(preprocess.describe()))
    assert told["size"] == told["resize_to"] == [8, 16]
    rebuilt = Preprocess(**{k: tuple(v) if isinstance(v, list) else v for k, v in told.items()})
    assert torch.equal(rebuilt(noise((30, 20))).pixels, preprocess(noise((30, 20))).pixels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolation": "spline"}, "interpolation='spline'; expected one of nearest"),
        ({"resize": "stretch"}, "resize='stretch'; expected one of squash"),
        ({"mean": (0.5,)}, r"mean=\(0.5,\); expected 3 numbers"),
        ({"std": (1.0, float("nan"), 1.0)}, "std=.*nan.*expected 3 numbers"),
        ({"std": (1.0, 0.0, 1.0)}, "must be above zero"),
        ({"size": (0, 4)}, "must be above zero"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(BadModel, match=message):
        Preprocess(**{"size": (8, 8), **options})


VIT = {
    "image_processor_type": "ViTImageProcessor",
    **{"do_resize": True, "do_rescale": True, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    "size": {"height": 8, "width": 8},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_flip_channel_order": True}, "transformers preprocessing: do_flip_channel_order=True not understood"),
        ({"rescale_offset": True}, "rescale_offset=True not understood"),
        ({"do_pad": True, "pad_size": {"height": 9, "width": 9}}, "do_pad=True, pad_size=.* not understood"),
        ({"crop_pct": 0.9}, "crop_pct=0.9 not understood"),
        ({"image_processor_type": "LevitImageProcessor"}, "image_processor_type='LevitImageProcessor' is not one of"),
        ({"image_processor_type": None}, "image_processor_type=None is not one of"),
        ({"size": 224}, "size=224; expected height and width"),
        ({"size": {"shortest_edge": 224}}, "size=.*shortest_edge.* varying size"),
        ({"size": {"shortest_edge": 8, "longest_edge": 16}, "do_center_crop": True}, "crop_size=None; expected"),
        ({"size": {"longest_edge": 16}}, "longest_edge"),
        ({"do_resize": False}, "do_resize=False"),
        ({"resample": 17}, "resample=17; expected"),
        ({"image_mean": None}, "expected a mean and std of three numbers, got None"),
        ({"image_mean": [0.5, 0.5]}, r"mean=\(0.5, 0.5\); expected 3 numbers"),
    ],
)
def test_transformers_settings_not_understood(change, message):
    from_transformers(VIT)
    with pytest.raises(BadModel, match=message):
        from_transformers({**VIT, **change})


def test_transformers_settings_that_are_missing():
    with pytest.raises(BadModel, match=r"no do_resize, size; pass the processor's to_dict"):
        from_transformers({key: value for key, value in VIT.items() if key not in ("do_resize", "size")})


def test_timm_settings_not_understood():
    config = {"input_size": (3, 8, 8), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    for change, message in [
        ({"crop_mode": "corner"}, "crop_mode='corner'; expected one of squash, border, center"),
        ({"input_size": (1, 8, 8)}, "expected 3 input channels, got 1"),
        ({"naflex": True}, "timm preprocessing: naflex=True not understood"),
        ({"interpolation": "random"}, "interpolation='random'; expected one of"),
    ]:
        with pytest.raises(BadModel, match=message):
            from_timm({**config, **change})


def test_other_settings_not_understood():
    presets = pytest.importorskip("torchvision.transforms._presets")
    with pytest.raises(BadModel, match=r"OpticalFlow has no crop_size"):
        from_torchvision(presets.OpticalFlow())
    with pytest.raises(BadModel, match=r"open_clip preprocessing: tiles=4 not understood"):
        from_open_clip({"mean": 0.5, "std": 0.5, "tiles": 4})
    with pytest.raises(BadModel, match=r"expected mode RGB"):
        from_open_clip({"mean": 0.5, "std": 0.5, "mode": "L"})
    with pytest.raises(BadModel, match=r"resize='crop'; expected one of"):
        from_open_clip({"mean": 0.5, "std": 0.5, "resize_mode": "crop"})
