"""The sides of a spectrogram: seconds below, hertz at the left."""

from typing import TYPE_CHECKING, Any

from PIL import Image

from gradtoken.axes import Axes
from gradtoken.draw.panels import GREY, SMALL
from gradtoken.draw.words import percent

if TYPE_CHECKING:
    from gradtoken.draw.layout import Place

LEFT, LOW = 0.42, 0.22  # inches beside and below the spectrogram for its ticks


def draw_spectrogram(place: "Place", image: Image.Image, axes: Axes) -> Any:
    """A spectrogram, or a map over it, with ticks; it fills the place."""
    ax = place.axes(left=LEFT, low=LOW, height=place.height - LOW)
    ax.imshow(image, interpolation="antialiased", aspect="auto", extent=(0, 1, 1, 0))
    for axis, ticks in ((ax.xaxis, axes.time_ticks()), (ax.yaxis, axes.pitch_ticks())):
        axis.set_ticks([share for share, _ in ticks], labels=[text for _, text in ticks])
    ax.tick_params(labelsize=SMALL, length=2, pad=1.5, color=GREY, labelcolor=GREY)
    ax.spines[:].set_visible(False)
    return ax


def beyond_note(axes: Axes | None) -> list[str]:
    """What is said of relevance that is not shown, if there is any."""
    return [f"{percent(axes.beyond)} of it on the padding behind the sound, not shown"] if axes and axes.beyond else []


def html_ticks(axes: Axes) -> str:
    """Ticks over the edges of a picture in a page, which fills its parent."""
    style = "position:absolute;font-size:.7em;color:#fff;text-shadow:0 0 3px #000,0 0 3px #000;pointer-events:none"
    times = [(f"left:{100 * share:.2f}%;bottom:0", text) for share, text in axes.time_ticks() if 0.1 < share < 0.95]
    pitches = [(f"left:2px;top:calc({100 * share:.2f}% - .7em)", text) for share, text in axes.pitch_ticks()]
    return "".join(f'<span style="{style};{place}">{text}</span>' for place, text in times + pitches)
