"""An animated GIF: maps that follow each other, of one scale each, and those of one moment side by side."""

import io
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from gradtoken.draw.panels import drawn, scale_of
from gradtoken.draw.style import Style
from gradtoken.errors import BadRelevance

if TYPE_CHECKING:
    from gradtoken.result import Explanation

LONGEST, PAUSE = 480, 250  # pixels of the longest side of a map; milliseconds of a frame


def gif(explanations: "Sequence[Explanation]", options: dict[str, Any]) -> bytes:
    """Frames in the order of the explanations; those of one source are one frame. options: see `Style`."""
    style = Style.of(**(options | {"shared_scale": True}))
    if any(one.relevance.ndim != 2 for one in explanations):
        raise BadRelevance("a GIF shows maps of pictures or films; save texts as .html or .png")
    frames = []
    for _, group in groupby(explanations, key=lambda one: one.source or id(one.picture)):
        row = []
        for one in group:
            among = [other for other in explanations if (other.name, other.method) == (one.name, one.method)]
            row.append(np.asarray(drawn(one, scale_of(one, among, style), LONGEST, style)))
        frames.append(Image.fromarray(np.concatenate(row, axis=1)))
    if len({frame.size for frame in frames}) > 1:
        raise BadRelevance("a GIF needs pictures of one size; save these as .png")
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=PAUSE, loop=0)
    return buffer.getvalue()
