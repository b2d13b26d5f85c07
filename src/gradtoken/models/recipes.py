"""Preprocessing as each library writes it down, to the same pixels as the library's own transform on a PIL picture.

A setting that is not understood is an error that names it.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from gradtoken.errors import BadModel
from gradtoken.models.preprocess import FILTERS, Preprocess

RESAMPLE = {code.value: name for name, code in FILTERS.items()}
# Processors that resize, crop, scale and normalise in the common way; others do more than their settings say.
PROCESSORS = {"Beit", "Bit", "CLIP", "ConvNext", "DeiT", "MobileNetV1", "Pvt", "Segformer", "Siglip", "ViT"}
PROCESSORS |= {"VideoMAE", "Vivit"}  # of each frame of a film
READ = {"do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize"}
READ |= {"image_mean", "image_std", "image_processor_type"}
# About colour mode, storage or segmentation masks:
HARMLESS = {"feature_extractor_type", "processor_class", "_processor_class", "do_convert_rgb", "default_to_square"}
HARMLESS |= {"do_reduce_labels", "reduce_labels", "data_format", "backend"}


def from_timm(config: Mapping[str, Any]) -> Preprocess:
    """From what `timm.data.resolve_model_data_config(net)` returns."""
    config = dict(config)
    channels, *size = config.pop("input_size", (3, 224, 224))
    percent = config.pop("crop_pct", None) or 0.875
    mode = config.pop("crop_mode", None) or "center"
    mean, std = colours(config.pop("mean", None)), colours(config.pop("std", None))
    interpolation = config.pop("interpolation", None) or "bilinear"
    if channels != 3:
        raise BadModel(f"timm preprocessing: expected 3 input channels, got {channels}")
    unknown("timm", config)
    resize_to = (math.floor(size[0] / percent), math.floor(size[1] / percent))
    kinds: dict[str, dict[str, Any]] = {
        "squash": {"resize": "squash"},
        "border": {"resize": "longest", "rounding": "round", "fill": tuple(round(255 * value) for value in mean)},
        "center": {"resize": "shortest", "rounding": "floor" if resize_to[0] == resize_to[1] else "round"},
    }
    if mode not in kinds:
        raise BadModel(f"timm preprocessing: crop_mode={mode!r}; expected one of {', '.join(kinds)}")
    return Preprocess((size[0], size[1]), resize_to, interpolation=interpolation, mean=mean, std=std, **kinds[mode])


def from_transformers(config: Mapping[str, Any]) -> Preprocess:
    """From an image processor's `to_dict()`; equal to `AutoImageProcessor.from_pretrained(..., backend="pil")`."""
    kind = str(config.get("image_processor_type")).removesuffix("Fast").removesuffix("Pil")
    kind = kind.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if kind == "TimmWrapper":
        return from_timm(config["data_config"])
    if kind not in PROCESSORS:
        raise BadModel(
            f"transformers preprocessing: image_processor_type={config.get('image_processor_type')!r} is not one of "
            f"{', '.join(sorted(PROCESSORS))}; give preprocess=Preprocess(...)"
        )
    read = READ | HARMLESS | {"ConvNext": {"crop_pct"}, "Vivit": {"offset"}}.get(kind, set())
    unknown("transformers", {key: value for key, value in config.items() if key not in read})
    missing = {"do_resize", "do_rescale", "do_normalize", "size"} - config.keys()
    if missing:
        raise BadModel(f"transformers preprocessing: no {', '.join(sorted(missing))}; pass the processor's to_dict()")
    norm = bool(config["do_normalize"])
    offset = 1.0 if kind == "Vivit" and config["do_rescale"] and config.get("offset") else 0.0  # taken off before mean
    return Preprocess(
        **geometry(config, kind),
        interpolation=filter_name(config.get("resample", 2)),
        mean=raised(colours(config.get("image_mean") if norm else 0.0), offset),
        std=colours(config.get("image_std") if norm else 1.0),
        scale=config.get("rescale_factor", 1 / 255) if config["do_rescale"] else 1.0,
        centre="floor",
    )


def geometry(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The part of a transformers configuration that says which pixels are seen."""
    size = sides(config["size"])
    crop = sides(config.get("crop_size") or {}) if config.get("do_center_crop") else None
    if crop is not None and crop.keys() != {"height", "width"}:
        raise BadModel(f"transformers preprocessing: crop_size={config.get('crop_size')!r}; expected height and width")
    final = (crop["height"], crop["width"]) if crop else None
    if not config["do_resize"] and final:
        return {"size": final, "resize": "none"}
    if config["do_resize"] and kind == "ConvNext" and size.keys() == {"shortest_edge"} and not crop:
        edge = size["shortest_edge"]
        if edge >= 384:
            return {"size": (edge, edge)}
        return {"size": (edge, edge), "resize": "shortest", "resize_to": (int(edge / config["crop_pct"]),) * 2}
    if config["do_resize"] and size.keys() == {"height", "width"}:
        resize_to = (size["height"], size["width"])
        return {"size": final or resize_to, "resize_to": resize_to}
    if config["do_resize"] and size.keys() == {"shortest_edge"} and final:
        return {"size": final, "resize": "shortest", "resize_to": (size["shortest_edge"],) * 2}
    raise BadModel(
        f"transformers preprocessing: do_resize={config['do_resize']!r}, size={config['size']!r} and "
        f"crop_size={crop!r} give pictures of varying size, or a size that is not understood; "
        "expected height and width, or shortest_edge with a centre crop"
    )


def sides(size: Any) -> dict[str, int]:
    """{"height": 224, "width": 224}, without the sides that are not set."""
    if not isinstance(size, Mapping):
        raise BadModel(f"transformers preprocessing: size={size!r}; expected height and width, or shortest_edge")
    return {name: int(value) for name, value in size.items() if value is not None}


def from_torchvision(transforms: Any) -> Preprocess:
    """From `weights.transforms()`."""
    values = {name: value for name, value in vars(transforms).items() if name[0] != "_" and name != "training"}
    try:
        crop, resize = values.pop("crop_size"), values.pop("resize_size")
        mean, std, interpolation = values.pop("mean"), values.pop("std"), values.pop("interpolation")
    except KeyError as error:
        raise BadModel(f"torchvision preprocessing: {type(transforms).__name__} has no {error.args[0]}") from error
    values.pop("antialias", None)  # has no effect on PIL pictures
    unknown("torchvision", values)
    return Preprocess(
        (crop[0], crop[-1]),
        (resize[0], resize[-1]),
        resize="shortest" if len(resize) == 1 else "squash",
        interpolation=interpolation.value.removesuffix("-exact"),
        mean=colours(mean),
        std=colours(std),
    )


def from_open_clip(config: Mapping[str, Any]) -> Preprocess:
    """From `model.visual.preprocess_cfg`."""
    config = dict(config)
    size = config.pop("size", 224)
    size = (size, size) if isinstance(size, int) else tuple(size)
    mode, fill = config.pop("resize_mode", None) or "shortest", config.pop("fill_color", 0)
    interpolation = config.pop("interpolation", None) or "bicubic"
    mean, std = colours(config.pop("mean", None)), colours(config.pop("std", None))
    if config.pop("mode", "RGB") != "RGB":
        raise BadModel("open_clip preprocessing: expected mode RGB")
    unknown("open_clip", config)
    exact = mode == "shortest" and size[0] == size[1]
    if interpolation == "random" or (mode == "shortest" and not exact):
        interpolation = "bicubic"  # what open_clip does in these cases
    rounding = "floor" if exact else "round"
    return Preprocess(
        size, resize=mode, interpolation=interpolation, mean=mean, std=std, fill=(fill,) * 3, rounding=rounding
    )


def colours(values: Any) -> tuple[float, float, float]:
    """One number per channel; a single number stands for all three."""
    if isinstance(values, int | float):
        values = (values,) * 3
    if not isinstance(values, Iterable):
        raise BadModel(f"preprocessing: expected a mean and std of three numbers, got {values!r}")
    red, *others = (float(value) for value in values)
    return (red, red, red) if not others else (red, *others)  # type: ignore[return-value]  # length: Preprocess checks


def raised(mean: tuple[float, float, float], by: float) -> tuple[float, float, float]:
    """Each channel's number, raised."""
    return tuple(value + by for value in mean)  # type: ignore[return-value]  # length: Preprocess checks


def filter_name(code: Any) -> str:
    """Pillow's number of a resampling filter as a name."""
    if code not in RESAMPLE:
        raise BadModel(f"transformers preprocessing: resample={code!r}; expected one of {RESAMPLE}")
    return RESAMPLE[code]


def unknown(library: str, rest: Mapping[str, Any]) -> None:
    """Refuse settings that are switched on but not understood."""
    rest = {key: value for key, value in rest.items() if value is not None and value is not False}
    if rest:
        named = ", ".join(f"{key}={value!r}" for key, value in rest.items())
        raise BadModel(f"{library} preprocessing: {named} not understood; give preprocess=Preprocess(...)")
