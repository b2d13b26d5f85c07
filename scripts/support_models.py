"""Small models with random weights for `support_matrix.py`, and what their libraries say of them."""

import dataclasses
import importlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn

from gradtoken.models._torchvision import ensure_torchvision

CLASSES = 10


class NotOffered(Exception):
    """The library has no such variant of a model; nothing to report."""


class Truth(NamedTuple):
    """What a library says: possible grids, prefix tokens, and `token`, `mean` or `query`; None where it does not."""

    grids: list[tuple[int, int]] | None = None
    prefix: int | None = None
    reads: str | None = None


@dataclasses.dataclass(frozen=True)
class Subject:
    """One model to examine."""

    library: str
    family: str
    name: str
    build: Callable[[], nn.Module]
    inputs: Any
    truth: Callable[[nn.Module], Truth] = lambda _: Truth()
    target: Any = 1

    @property
    def size_text(self) -> str:
        shape = self.inputs.shape if isinstance(self.inputs, Tensor) else next(iter(self.inputs.values())).shape
        return " x ".join(map(str, shape[2:] if len(shape) == 4 else shape[1:]))

    def structure(self, net: nn.Module) -> str:
        """Equal for two models that differ in name only."""
        plain = {k: v for k, v in vars(net).items() if isinstance(v, bool | int | float | str | tuple)}
        shapes = [(k, tuple(p.shape)) for k, p in net.named_parameters()]
        return f"{self.library} {self.family} {self.size_text} {plain} {shapes} {net}"


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def shaken(net: nn.Module, inputs: Any = None) -> nn.Module:
    """Random weights, none of them zero; batch norms that fit the data; attention biases that prefer what is near."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.add_((0.2 if p.ndim < 2 else 0.03) * torch.randn(p.shape, generator=generator))
            if name.endswith("attention_biases"):  # (heads, offsets): the first offset is none
                p[:, 0] += 12
        norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        if norms and isinstance(inputs, Tensor):
            for norm in norms:
                norm.train().momentum = None
            net(inputs.repeat(2, 1, 1, 1) + 0.1 * random(2 * len(inputs), *inputs.shape[1:]))
    return net.eval()


def versions() -> str:
    found = [f"{name} {importlib.import_module(name).__version__}" for name in ("torch", "timm", "transformers")]
    return ", ".join([*found, *(f"{n} {importlib.import_module(n).__version__}" for n in ("torchvision", "open_clip"))])


def subjects(only: list[str] | None) -> Iterator[Subject]:
    ensure_torchvision()
    others = importlib.import_module("support_others").OTHERS
    for source in (from_timm, from_transformers, from_torchvision, from_open_clip, *others):
        yield from (subject for subject in source() if not only or {subject.family, subject.library} & {*only})


# timm ----------------------------------------------------------------------------------------------------------------

FLAT = {"depth": 3, "embed_dim": 48, "num_heads": 3}
FOUR = {"depths": (2, 2, 2, 2), "embed_dims": (16, 16, 32, 32), "num_heads": (2, 2, 2, 2)}
SWIN = {"depths": (2, 2, 2, 2), "embed_dim": 16, "num_heads": (2, 2, 2, 2)}
TIMM: dict[str, dict[str, Any]] = {  # file of the architecture: what makes it small
    "vision_transformer": FLAT,
    "deit": FLAT,
    "beit": FLAT,
    "eva": FLAT | {"num_kv_heads": None},
    "vision_transformer_relpos": FLAT,
    "vision_transformer_sam": FLAT | {"global_attn_indexes": (2,)},
    "naflexvit": FLAT,
    "deepseek_vit": FLAT,
    "qwen3_vit": FLAT,
    "gemma4_vit": FLAT | {"head_dim": 16, "intermediate_size": 64},
    "cait": FLAT,
    "xcit": FLAT,
    "convit": FLAT | {"local_up_to_layer": 2},
    "tnt": {"depth": 3, "embed_dim": 48, "num_heads_outer": 3, "inner_dim": 16, "num_heads_inner": 4},
    "crossvit": {"depth": ((1, 1, 1), (1, 1, 1)), "embed_dim": (24, 48), "num_heads": (3, 3)},
    "volo": {"layers": (1, 2, 1, 1), "embed_dims": (16, 32, 32, 32), "num_heads": (2, 2, 2, 2)},
    "swin_transformer": SWIN,
    "swin_transformer_v2": SWIN,
    "swin_transformer_v2_cr": SWIN,
    "visformer": {"depth": (2, 2, 2), "embed_dim": 48, "num_heads": 3},
    "pit": {"base_dims": (8, 8, 8), "depth": (2, 2, 2), "heads": (2, 2, 2)},
    "levit": {"embed_dim": (32, 32, 64), "num_heads": (2, 2, 2), "depth": (2, 2, 2), "key_dim": 8},
    "pvt_v2": FOUR,
    "twins": FOUR,
    "tiny_vit": FOUR,
    "gcvit": SWIN,
    "nest": {"depths": (2, 2, 2), "embed_dims": (16, 16, 32), "num_heads": (2, 2, 2)},
    "hiera": {"embed_dim": 16, "stages": (1, 1, 2, 3)},
    "hieradet_sam2": {"embed_dim": 16, "stages": (1, 1, 3, 2), "global_att_blocks": (3,)},
    "mvitv2": {"embed_dim": 16, "depths": (1, 1, 2, 3), "num_heads": 1},
    "davit": {"depths": (1, 1, 1, 1), "embed_dims": (32, 32, 64, 64), "num_heads": (1, 1, 2, 2)},
    "coat": {"embed_dims": (32, 32, 32, 32), "serial_depths": (1, 1, 1, 1), "num_heads": 8},
    "edgenext": {"dims": (16, 16, 32, 32), "depths": (2, 2, 2, 2), "heads": (2, 2, 2, 2)},
    "efficientformer": {"depths": (1, 1, 1, 3), "embed_dims": (16, 16, 32, 32), "num_vit": 2},
    "efficientformer_v2": {"depths": (2, 2, 3, 3), "embed_dims": (16, 16, 32, 32)},
    "maxxvit": {"stem_width": 32, "embed_dim": (32, 32, 64, 64), "depths": (1, 1, 2, 2)},
    "metaformer": {"depths": (1, 1, 2, 2), "dims": (16, 32, 64, 96)},
    "fastvit": {"layers": (1, 1, 2, 2), "embed_dims": (32, 32, 64, 64)},
    "efficientvit_msra": {"embed_dim": (32, 32, 64), "num_heads": (2, 2, 2), "key_dim": (8, 8, 8)},
    "focalnet": {"embed_dim": 16, "depths": (1, 1, 1, 1)},
}
FEW = {  # families that cannot be built narrower: some of their smallest names
    **{"mobilevit": ["mobilevit_xxs"], "nextvit": ["nextvit_small"], "iformer": ["iformer_t"], "shvit": ["shvit_s1"]},
    **{"csatv2": ["csatv2"], "lowformer": ["lowformer_b0"], "cpubone": ["cpubone_b0_bfrobust"]},
    **{"byoanet": ["botnet26t_256", "halonet26t"], "efficientvit_mit": ["efficientvit_b0"]},
    **{"swiftformer": ["swiftformer_xs"], "efficientvim": ["efficientvim_m1"], "byobnet": ["resnet50_clip"]},
    "vitamin": ["vitamin_small_224", "vitamin_base_224"],
    "vision_transformer_hybrid": ["vit_tiny_r_s16_p8_224", "vit_small_r26_s32_224"],
}

LARGEST = {"maxxvit": 256}  # pixels; its many attentions over large pictures take minutes


def from_timm() -> Iterator[Subject]:
    timm = importlib.import_module("timm")
    module_of = importlib.import_module("timm.models._registry")._model_to_module
    for family in [*TIMM, *FEW]:
        changes = TIMM.get(family, {})
        for name in FEW.get(family) or [name for name in timm.list_models() if module_of[name] == family]:
            size = timm.get_pretrained_cfg(name).input_size if timm.get_pretrained_cfg(name) else (3, 224, 224)
            if size[1] > LARGEST.get(family, 1024):
                continue
            if family == "vision_transformer_sam" and size[1] > 512:  # 4096 tokens with a mask are too many here
                size, changes = (3, 512, 512), changes | {"img_size": 512}
            pictures = random(2 if size[1] <= 224 else 1, *size)
            build = small_timm(family, name, changes, pictures)
            target = first_feature if name.endswith("_enc") else 1
            yield Subject("timm", family, name, build, pictures, truth_of_timm(size), target)


def first_feature(tokens: Tensor) -> Tensor:
    """A score for a model without classes. (B, N, C) -> (B,)"""
    return tokens.mean(dim=1)[:, 0]


def small_timm(family: str, name: str, changes: dict[str, Any], pictures: Tensor) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        module = importlib.import_module(f"timm.models.{family}")
        make = module.build_model_with_cfg

        def smaller(cls: Any, variant: str, pretrained: bool, **options: Any) -> nn.Module:
            cfg, apply = options.get("model_cfg"), dict(changes)
            if dataclasses.is_dataclass(cfg):
                own = {field.name for field in dataclasses.fields(cfg)} & set(apply)
                options["model_cfg"] = dataclasses.replace(cfg, **{key: apply.pop(key) for key in own})
            net: nn.Module = make(cls, variant, pretrained, **options | apply)
            return net

        torch.manual_seed(0)
        with mock.patch.object(module, "build_model_with_cfg", smaller):
            net = importlib.import_module("timm").create_model(name, num_classes=CLASSES)
        return shaken(net, pictures)

    return build


def truth_of_timm(size: tuple[int, ...]) -> Callable[[nn.Module], Truth]:
    def truth(net: Any) -> Truth:
        info, pool = getattr(net, "feature_info", None), getattr(net, "global_pool", None)
        grids = None
        if isinstance(getattr(net, "patch_embed", None), nn.ModuleList):  # two branches
            grids = [(round(embed.num_patches**0.5),) * 2 for embed in net.patch_embed]
        elif info:
            step = info[-1]["reduction"] if isinstance(info, list) else info.reduction()[-1]
            steps = step if isinstance(step, tuple) else (step, step)
            grids = [tuple(rounded(s / r) for s, r in zip(size[1:], steps, strict=True)) for rounded in ROUNDINGS]
        reads = {"token": "token", "avg": "mean", "map": "query"}.get(pool) if isinstance(pool, str) else None
        return Truth(grids, getattr(net, "num_prefix_tokens", None), reads)

    return truth


ROUNDINGS: tuple[Callable[[float], int], ...] = (math.floor, math.ceil)


# transformers --------------------------------------------------------------------------------------------------------

BASE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
VIT = BASE | {"image_size": 64, "patch_size": 8}
LEVELS = {"depths": [1, 1, 2, 2], "num_heads": [2, 2, 2, 2], "embed_dim": 16, "image_size": 128, "window_size": 4}
STAGES = {"hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 2, 2, 2], "depths": [1, 1, 2, 2]}
CLIP_TEXT = BASE | {"vocab_size": 30, "max_position_embeddings": 8}
TRANSFORMERS: dict[str, dict[str, Any]] = {  # model type: its configuration
    **dict.fromkeys(("beit", "data2vec-vision", "deit", "dinov2", "ijepa", "vit", "vit_msn"), VIT),
    "dinov2_with_registers": VIT | {"num_register_tokens": 4},
    **{kind: {"vision_config": VIT, "text_config": CLIP_TEXT, "projection_dim": 16} for kind in ("clip", "metaclip_2")},
    "siglip": {"vision_config": VIT, "text_config": CLIP_TEXT},
    "siglip2": {"vision_config": BASE | {"patch_size": 8, "num_patches": 64}, "text_config": CLIP_TEXT},
    **dict.fromkeys(("swin", "swinv2", "donut-swin"), LEVELS),
    "hiera": {"depths": [1, 1, 2, 3], "num_heads": [1, 2, 2, 2], "embed_dim": 16, "image_size": [224, 224]},
    "cvt": {"embed_dim": [16, 32, 64], "depth": [1, 2, 3], "num_heads": [1, 2, 2]},
    "pvt": STAGES | {"image_size": 224},
    "pvt_v2": STAGES | {"image_size": 224},
    "segformer": STAGES,
    "levit": {
        "hidden_sizes": [32, 32, 64],
        "num_attention_heads": [2, 2, 2],
        "depths": [2, 2, 2],
        "key_dim": [8, 8, 8],
    },
    "mobilevit": {"hidden_sizes": [16, 24, 32], "image_size": 128},
    "imagegpt": {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 64, "vocab_size": 17},
    "perceiver": {
        "d_latents": 32,
        "num_latents": 16,
        "num_cross_attention_heads": 1,
        "num_self_attends_per_block": 2,
        "image_size": 56,
    },
    "timm_wrapper": {"architecture": "test_vit"},
}
SIDE = {"hiera": 224, "pvt": 224, "pvt_v2": 224, "segformer": 224, "cvt": 224, "levit": 224, "timm_wrapper": 160}
WITH_TEXT = ("shieldgemma2",)  # a language model that answers a question about a picture
PREFIX = {  # class, distillation and register tokens, as each model's documentation has them
    **{"beit": 1, "data2vec-vision": 1, "deit": 2, "dinov2": 1, "dinov2_with_registers": 5, "ijepa": 0, "vit": 1},
    **{"vit_msn": 1, "clip": 1, "metaclip_2": 1, "siglip": 0},
}
STRIDE = {  # pixels per key of the last attention
    "swin": 32,
    "swinv2": 32,
    "donut-swin": 32,
    "hiera": 32,
    "cvt": 32,
    "pvt": 32,
    "pvt_v2": 32,
    "segformer": 32,
}


def from_transformers() -> Iterator[Subject]:
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    every = auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    for kind, classes in ((kind, classes) for kind, classes in every.items() if kind not in WITH_TEXT):
        for cls in classes if isinstance(classes, tuple) else (classes,):
            for attention in ("sdpa", "eager"):
                build, side = small_transformers(kind, cls, attention), side_of(kind, cls)
                pictures = {"inputs" if kind == "perceiver" else "pixel_values": random(2, 3, side, side)}
                yield Subject(
                    "transformers", kind, f"{cls}, {attention}", build, inputs_of(kind, pictures), truth_of(kind)
                )


def side_of(kind: str, cls: str) -> int:
    if kind == "perceiver":
        return 224 if "Learned" not in cls else 56
    return SIDE.get(kind, 64 if kind in PREFIX else 128)


def inputs_of(kind: str, pictures: dict[str, Tensor]) -> dict[str, Tensor]:
    """Pictures, but for two models that take pixels as words and patches as rows."""
    if kind == "imagegpt":
        return {"input_ids": torch.randint(0, 16, (2, 64), generator=torch.Generator().manual_seed(1))}
    if kind == "siglip2":
        shapes = torch.tensor([[8, 8], [8, 8]])
        return {
            "pixel_values": random(2, 64, 192),
            "pixel_attention_mask": torch.ones(2, 64, dtype=torch.long),
            "spatial_shapes": shapes,
        }
    return pictures


def small_transformers(kind: str, cls: str, attention: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        t = importlib.import_module("transformers")
        t.logging.set_verbosity_error()
        torch.manual_seed(0)
        options = dict(TRANSFORMERS.get(kind, {}))
        try:
            config = t.CONFIG_MAPPING[kind](**options, num_labels=CLASSES, attn_implementation=attention)
            net = getattr(t, cls)(config)
        except ValueError as error:
            if "does not support an attention implementation" in str(error):
                raise NotOffered from None
            raise
        return shaken(net)

    return build


def truth_of(kind: str) -> Callable[[nn.Module], Truth]:
    def truth(_: nn.Module) -> Truth:
        if kind in PREFIX:
            return Truth([(8, 8)], PREFIX[kind])
        if kind in STRIDE:
            cells = side_of(kind, "") // STRIDE[kind]
            return Truth([(cells, cells)], 1 if kind in ("cvt", "pvt") else 0)
        return Truth()

    return truth


# torchvision and open_clip -------------------------------------------------------------------------------------------


def from_torchvision() -> Iterator[Subject]:
    models = importlib.import_module("torchvision.models")
    vit = {"num_layers": 3, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64, "num_classes": CLASSES}
    swin = {"embed_dim": 16, "depths": [2, 2, 2, 2], "num_heads": [2, 2, 2, 2], "num_classes": CLASSES}
    maxvit = {"stem_channels": 16, "block_channels": [16, 16, 32, 32], "block_layers": [1, 1, 1, 2], "head_dim": 8}
    made: dict[str, tuple[Callable[[], nn.Module], tuple[int, int], int | None]] = {
        "vit_b_16": (lambda: models.VisionTransformer(224, 16, **vit), (14, 14), 1),
        "vit_b_32": (lambda: models.VisionTransformer(224, 32, **vit), (7, 7), 1),
        "swin_t": (lambda: models.SwinTransformer([4, 4], window_size=[7, 7], **swin), (7, 7), 0),
        "swin_v2_t": (lambda: swin_v2(swin), (7, 7), 0),
        "maxvit_t": (
            lambda: models.MaxVit(
                (224, 224), partition_size=7, stochastic_depth_prob=0.0, num_classes=CLASSES, **maxvit
            ),
            (7, 7),
            0,
        ),
    }
    pictures = random(2, 3, 224, 224)
    for name, (make, grid, prefix) in made.items():

        def build(make: Callable[[], nn.Module] = make) -> nn.Module:
            torch.manual_seed(0)
            return shaken(make(), pictures)

        truth = Truth([grid], prefix)
        yield Subject("torchvision", name, name, build, pictures, lambda _, truth=truth: truth)


def swin_v2(options: dict[str, Any]) -> nn.Module:
    swin = importlib.import_module("torchvision.models.swin_transformer")
    net: nn.Module = swin.SwinTransformer(
        [4, 4], window_size=[7, 7], block=swin.SwinTransformerBlockV2, downsample_layer=swin.PatchMergingV2, **options
    )
    return net


def from_open_clip() -> Iterator[Subject]:
    """The picture tower alone; the score is the similarity with a fixed embedding."""

    def build(pool: str) -> nn.Module:
        transformer = importlib.import_module("open_clip.transformer")
        torch.manual_seed(0)
        options = {"attentional_pool": True, "attn_pooler_queries": 8} if pool == "attention" else {"pool_type": pool}
        return shaken(transformer.VisionTransformer(64, 8, 32, 3, 2, 2.0, output_dim=16, **options))

    def score(features: Any) -> Tensor:
        return features @ random(16)

    for pool, reads in (("tok", "token"), ("avg", "mean"), ("attention", None)):
        truth = Truth([(8, 8)], 1, reads)
        yield Subject(
            "open_clip",
            "VisionTransformer",
            f"picture tower, pooled by {pool}",
            lambda pool=pool: build(pool),
            random(2, 3, 64, 64),
            lambda _, truth=truth: truth,
            score,
        )
