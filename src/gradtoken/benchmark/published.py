"""The numbers of the GradToken paper (https://doi.org/10.1016/j.neunet.2024.106837), in percent, as it prints them.

All are of ViT-B/16 (timm `vit_base_patch16_224.orig_in21k_ft_in1k`). The rows that the paper took from Chefer et al.,
https://arxiv.org/abs/2012.09838, follow that paper's rules, the others its own: one table, two protocols.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

COPIED = "mean threshold, quoted from Chefer 2021"
OWN = "best of {0 ... 0.9}"
SEGMENTATION, VOC = "imagenet-segmentation/gradtoken2025", "voc2012/gradtoken2025"
PERTURBATION, MOVIES = "perturbation/gradtoken2025", "movies/eraser"
CHEFER = {SEGMENTATION: "imagenet-segmentation/chefer2021", PERTURBATION: "perturbation/chefer2021"}  # also compared


@dataclass(frozen=True)
class Quantity:
    """One column of the paper. number: what ours begins with, "" for all. ask: which class is explained."""

    title: str
    protocol: str
    number: str
    ask: str = ""


@dataclass(frozen=True)
class Known:
    """One row of the paper. title: of our method. values: by quantity, where the paper gives one. rule: its own."""

    name: str
    title: str
    values: Mapping[str, float]
    rule: str


@dataclass(frozen=True)
class Exhibit:
    """A table or a figure. grid: the option of GradToken that it varies. kinds: protocol for a kind of data set."""

    name: str
    caption: str
    quantities: tuple[Quantity, ...]
    rows: tuple[Known, ...]
    note: str = ""
    grid: str | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)


def rows_of(
    quantities: tuple[Quantity, ...],
    rules: Mapping[str, str],
    table: Mapping[str, tuple[str, tuple[float | None, ...]]],
) -> tuple[Known, ...]:
    """Rows as the paper prints them; None where it prints nothing."""
    return tuple(
        Known(
            name,
            title,
            {q.title: v for q, v in zip(quantities, values, strict=False) if v is not None},
            rules.get(name, rules[""]),
        )
        for name, (title, values) in table.items()
    )


MASKS = (
    Quantity("ImageNet-Segmentation PAcc", SEGMENTATION, "pixel accuracy"),
    Quantity("ImageNet-Segmentation mAP", SEGMENTATION, "mAP"),
    Quantity("ImageNet-Segmentation mIoU", SEGMENTATION, "mIoU"),
)
CLASSES = (
    Quantity("VOC 2012 PAcc", VOC, "pixel accuracy"),
    Quantity("VOC 2012 mIoU", VOC, "mIoU"),
)
AREAS = (
    Quantity("positive, label unknown", PERTURBATION, "positive", "predicted"),
    Quantity("positive, label known", PERTURBATION, "positive", "label"),
    Quantity("negative, label unknown", PERTURBATION, "negative", "predicted"),
    Quantity("negative, label known", PERTURBATION, "negative", "label"),
)
QUOTED = ("Rollout", "RawAttention", "GradCAM", "LRP", "PLRP", "TransAttrib")

TABLE_1 = Exhibit(
    "Table 1",
    "segmentation",
    (*MASKS, *CLASSES),
    rows_of(
        (*MASKS, *CLASSES),
        {"": OWN, **dict.fromkeys(QUOTED, f"{COPIED} (VOC: {OWN})")},
        {
            "Rollout": ("rollout", (73.54, 84.76, 55.42, 64.15, 24.85)),
            "RawAttention": ("raw_attention", (67.84, 80.24, 46.37, 61.21, 18.40)),
            "GradCAM": ("gradcam", (64.44, 71.60, 40.82, 69.03, 24.85)),
            "LRP": ("lrp", (51.09, 55.68, 32.89, 46.79, 16.45)),
            "PLRP": ("partial_lrp", (76.31, 84.67, 57.94, 66.76, 29.89)),
            "TransAttrib": ("transattrib", (79.70, 86.03, 61.95, 76.43, 44.31)),
            "AttCAT": ("attcat", (71.78, 74.62, 47.54, 70.05, 24.36)),
            "ViT-CX": ("vit_cx", (76.95, 75.03, 56.71, 74.24, 37.88)),
            "absLRP": ("abs_lrp", (71.04, 78.37, 52.26, 48.75, 29.90)),
            "AGCAM": ("agcam", (81.15, 87.77, 63.70, 78.73, 42.47)),
            "GradToken": ("gradtoken", (84.51, 86.10, 68.24, 79.48, 46.02)),
        },
    ),
    "The paper does not say how an ImageNet model gets the classes of VOC, nor how maps of several classes are joined.",
    kinds={"": SEGMENTATION, "voc2012": VOC},
)
TABLE_2 = Exhibit(
    "Table 2",
    "perturbation: area under the accuracy curve",
    AREAS,
    rows_of(
        AREAS,
        {"": "as Chefer 2021", **dict.fromkeys(QUOTED, "quoted from Chefer 2021")},
        {
            "Rollout": ("rollout", (20.05, None, 53.1, None)),
            "RawAttention": ("raw_attention", (23.99, None, 45.55, None)),
            "GradCAM": ("gradcam", (34.06, 33.56, 41.52, 42.02)),
            "LRP": ("lrp", (41.94, 41.93, 43.49, 43.49)),
            "PLRP": ("partial_lrp", (19.64, 19.64, 50.49, 50.49)),
            "TransAttrib": ("transattrib", (17.03, 16.04, 54.16, 55.04)),
            "AttCAT": ("attcat", (21.00, 20.02, 39.54, 41.69)),
            "ViT-CX": ("vit_cx", (14.78, 13.72, 55.86, 57.57)),
            "GradToken": ("gradtoken", (15.97, 14.89, 58.37, 59.61)),
        },
    ),
    "Neither paper's code computes the area: which rule made these numbers is not known. Ours is the trapezoid rule "
    "over the untouched picture, nine steps, and 0. Maps that are the same for every class have no known label.",
)
TABLE_3 = Exhibit(
    "Table 3",
    "propagation schemes",
    MASKS,
    rows_of(
        MASKS,
        {"": OWN},
        {
            "GradToken-0": ("gradtoken propagation=none", (77.67, 77.09, 58.28)),
            "GradToken-1": ("gradtoken propagation=rollout_elementwise", (81.73, 88.01, 65.43)),
            "GradToken-2": ("gradtoken propagation=rollout_matmul", (82.14, 83.57, 65.11)),
            "GradToken-3": ("gradtoken propagation=average_elementwise", (81.49, 86.98, 63.99)),
            "GradToken-4": ("gradtoken", (84.51, 86.10, 68.24)),
        },
    ),
    grid="propagation",
)
TABLE_4 = Exhibit(
    "Table 4",
    "integration of heads",
    MASKS,
    rows_of(
        MASKS,
        {"": OWN},
        {
            "mean": ("gradtoken heads=mean", (75.11, 74.28, 51.32)),
            "ReLU and mean": ("gradtoken", (84.51, 86.10, 68.24)),
        },
    ),
    grid="heads",
)
FIGURE_6 = Exhibit(
    "Figure 6",
    "token F1 of words on ERASER movies",
    (Quantity("token F1", MOVIES, ""),),
    (),
    "The paper prints curves over 10 to 80 words and no numbers: GradToken lies above the others everywhere, by more "
    "the more words there are.",
)
FIGURE_11 = Exhibit(
    "Figure 11",
    "depth of propagation",
    MASKS,
    rows_of(
        MASKS,
        {"": OWN},
        {
            "from block 1": ("gradtoken", (84.51, 86.10, 68.24)),
            "from block 2": ("gradtoken depth=2", (None, 86.12, 68.27)),
            **{f"from block {d}": (f"gradtoken depth={d}", ()) for d in range(3, 12)},
            "none": ("gradtoken depth=12", ()),
        },
    ),
    "The paper prints a curve; numbers are known of blocks 1 and 2; no propagation is GradToken-0 of its Table 3.",
    grid="depth",
)
TABLES = {"1": TABLE_1, "2": TABLE_2, "3": TABLE_3, "4": TABLE_4}
FIGURES = {"6": FIGURE_6, "11": FIGURE_11}
