"""Draw docs/figures/summary.jpg, what the package does at a glance: python scripts/summary_picture.py

A picture with two answers, the map of each, other methods for one of them, and whether the map holds: everything is
computed with the bundled model when this is run.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import gradtoken
from gradtoken.comparison import Comparison
from gradtoken.draw.graphs import FONT, plain
from gradtoken.draw.layout import Place
from gradtoken.draw.overlay import resized
from gradtoken.draw.panels import GREY, draw_scale, drawn, scale_of
from gradtoken.draw.sheet import Sheet, settings
from gradtoken.draw.style import Style
from gradtoken.draw.words import percent
from gradtoken.erasing import curves
from gradtoken.explaining import Case, of_picture
from gradtoken.methods import METHODS
from gradtoken.models.bundled import FOLDER
from gradtoken.models.pictures import open_picture

PICTURE = FOLDER / "pictures" / "cat_and_giraffe.jpg"
OUT = Path(__file__).parent.parent / "docs" / "figures" / "summary.jpg"
CLASSES = ("cat", "giraffe")
OTHERS = ["legrad", "grad_eclip", "agcam", "gradcam_features", "attn_lrp", "tis"]
WIDTH, HEIGHT, DPI = 8.3, 2.62, 220
LARGE, SMALL, GAP = 1.86, 0.88, 0.12  # widths of panels in inches
HUES = {True: "#c04f00", False: "#0072b2", None: "0.4"}  # of Okabe and Ito
LABELS = {
    True: (15, 55, "left", "most relevant\nfirst"),
    None: (66, 22, "right", "random\norder"),
    False: (50, 104, "center", "least relevant first"),
}  # where they stand beside their curves


def main(out: Path = OUT) -> None:
    model = gradtoken.load("bundled")
    maps = gradtoken.compare(PICTURE, model, list(CLASSES), ["gradtoken", *OTHERS])
    with settings(**FONT):
        sheet = Sheet(WIDTH, HEIGHT, DPI)
        ratio = maps.rows[0].picture.height / maps.rows[0].picture.width
        classes(sheet, maps, 1.28, ratio)
        others(sheet, maps, 0.22, ratio)
        holds(Place(sheet, 6.3, 0.36, 1.9, 0.92 + LARGE * ratio), model)
        buffer = io.BytesIO()
        sheet.savefig(buffer, format="png")
    Image.open(buffer).convert("RGB").save(out, quality=90, subsampling=0, optimize=True)


def classes(sheet: Sheet, maps: Comparison, low: float, ratio: float) -> None:
    """The picture, and the map of each class."""
    for i, row in enumerate([None, *maps.rows]):
        place = Place(sheet, 0.06 + i * (LARGE + GAP), low, LARGE, LARGE * ratio)
        if row is None:
            headed(place, "one picture", "what did the model see?")
            bare(place).imshow(resized(maps.rows[0].picture, (0, 0, 1, 1), round(LARGE * DPI))[0])
        else:
            headed(place, f"why {row.name}?", f"probability {percent(row.probability or 0)}")
            laid(place, row.cells[0].explanation)


def others(sheet: Sheet, maps: Comparison, low: float, ratio: float) -> None:
    """Other methods for the second class."""
    step = (3 * (LARGE + GAP) - GAP - SMALL) / (len(OTHERS) - 1)
    for i, name in enumerate(OTHERS):
        place = Place(sheet, 0.06 + i * step, low, SMALL, SMALL * ratio)
        place.write(name, place.height + 0.04, fontsize=7, color=GREY)
        laid(place, maps.rows[1].cells[1 + i].explanation, 5.5, 13)
    top = Place(sheet, 0.06, low + SMALL * ratio + 0.2, 0, 0)
    top.write(f"the same question, other methods: {len(METHODS)} in all", 0, fontsize=8, fontweight="bold")


def holds(place: Place, model: gradtoken.Model) -> None:
    """Probability of the first class while patches are erased."""
    case = Case.of(open_picture(PICTURE), "", model, [CLASSES[0]])
    maps = of_picture(case, {"gradtoken": {}}, ["gradtoken"], allow_blank=False)
    headed(place, "is it true?", "erase patches, watch the probability")
    ax = place.axes(left=0.42)
    for one in curves(case, maps):
        x, hue = np.linspace(0, 1, len(one.probability)), HUES[one.most_first]
        dashes = {True: "-", False: (0, (5, 1.5)), None: (0, (1, 1.5))}[one.most_first]
        ax.plot(100 * x, 100 * one.probability, color=hue, ls=dashes, lw=1.5)
        across, up, side, words = LABELS[one.most_first]
        ax.text(across, up, words, color=hue, ha=side, va="bottom", fontsize=7)
    ax.set(xlabel="patches erased (%)", ylabel=f"probability of {CLASSES[0]} (%)", xlim=(0, 100), ylim=(0, 114))
    ax.set_yticks(range(0, 101, 25))
    plain(ax)


def headed(place: Place, name: str, fact: str) -> None:
    """Bold over grey, above a panel."""
    place.write(name, place.height + 0.19, fontsize=9, fontweight="bold")
    place.write(fact, place.height + 0.05, fontsize=7, color=GREY)


def laid(place: Place, one: Any, points: float = 6.5, letters: int = 34) -> None:
    """A map over its picture, and the bar of its colours."""
    style = Style()
    scale = scale_of(one, [one], style)
    bare(place).imshow(drawn(one, scale, round(place.width * DPI), style))
    draw_scale(place.axes(low=-0.065, height=0.045), scale, points, letters)


def bare(place: Place) -> Any:
    ax = place.axes()
    ax.axis("off")
    return ax


if __name__ == "__main__":
    main()
