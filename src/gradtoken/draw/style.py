"""The options of every drawing, in one place."""

from dataclasses import dataclass, fields
from typing import Any

from numpy.typing import NDArray

from gradtoken.draw.colours import colour_table
from gradtoken.draw.grid import INTERPOLATIONS, is_fine
from gradtoken.errors import GradTokenError, UnknownName

EXTREMES = 0.005  # share of the pixels of a map that are left beyond each end: few, which would leave all others alike


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a map is shown; nothing here changes the relevance itself."""

    colours: str | None = None  # any matplotlib colour map; None: inferno, or red and blue for signed maps
    opacity: float = 0.6  # of the heat over the picture, 0..1, the same everywhere
    grey: bool = True  # the picture under the heat without its colours, so that hues are read from the heat alone
    interpolation: str = "bilinear"  # or "nearest", which shows the patches; maps finer than the drawing are averaged
    limits: tuple[float, float] | None = None  # raw values at the two ends of the colours; None: smallest and largest
    clip: float | None = None  # share of values left beyond each end of the colours; None: 0, of pixels EXTREMES
    shared_scale: bool = False  # one scale for all maps of a method in a figure
    top: float | None = None  # no colours: keep the picture on this share of its area, dim the rest
    threshold: float | None = None  # no colours: keep the picture where relevance reaches this share of its largest
    lines: bool = False  # the borders of the patches; maps of pixels have none
    cap: int | None = None  # longest side of the drawn picture in pixels; None: as large as the original

    def __post_init__(self) -> None:
        for problem in filter(None, (self._scale_problem(), self._view_problem())):
            raise GradTokenError(f"style {problem}")
        if self.colours is not None:
            colour_table(self.colours)

    @classmethod
    def of(cls, **options: Any) -> "Style":
        """A style from keyword options; an unknown one is refused with the nearest names."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise UnknownName.among("style", name, known)
        return cls(**options)

    def clipped(self, relevance: NDArray[Any]) -> float:
        """The share of values beyond each end of the colours of this map."""
        if self.clip is not None:
            return self.clip
        return EXTREMES if self.limits is None and is_fine(relevance) else 0.0

    @property
    def masks(self) -> bool:
        """Whether the picture is masked instead of coloured."""
        return self.top is not None or self.threshold is not None

    def _scale_problem(self) -> str:
        if not 0 <= self.opacity <= 1:
            return f"opacity: expected a number from 0 to 1, got {self.opacity!r}"
        if self.clip is not None and not 0 <= self.clip < 0.5:
            return f"clip: expected a share from 0 to below 0.5, got {self.clip!r}"
        if self.limits is not None and not (len(self.limits) == 2 and self.limits[0] < self.limits[1]):
            return f"limits: expected (low, high) with low < high, got {self.limits!r}"
        if self.limits is not None and self.clip:
            return "limits and clip both set the ends of the colours; give one of them"
        return ""

    def _view_problem(self) -> str:
        if self.interpolation not in INTERPOLATIONS:
            return f"interpolation: expected one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}"
        if self.top is not None and not 0 < self.top <= 1:
            return f"top: expected a share above 0 and up to 1, got {self.top!r}"
        if self.threshold is not None and not 0 < self.threshold <= 1:
            return f"threshold: expected a share of the maximum, above 0 and up to 1, got {self.threshold!r}"
        if self.top is not None and self.threshold is not None:
            return "top and threshold both choose what is kept; give one of them"
        if self.cap is not None and self.cap < 16:
            return f"cap: expected at least 16 pixels, got {self.cap!r}"
        return ""
