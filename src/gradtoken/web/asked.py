"""What the controls of the page say, checked: a browser may send anything."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from gradtoken.defaults import METHOD
from gradtoken.draw.grid import INTERPOLATIONS
from gradtoken.draw.style import Style
from gradtoken.errors import BadTarget, UnknownName

AUTOMATIC = "automatic"
COLOURS = (
    AUTOMATIC,
    "inferno",
    "viridis",
    "cividis",
    "magma",
    "RdBu_r",
    "PuOr_r",
    "gray",
)  # safe for colour-blind eyes


@dataclass(frozen=True, kw_only=True)
class Asked:
    """methods: at least one. threshold: share of the maximum below which the picture is dimmed, 0 for colours.

    shared: one scale for both classes. The rest as in `Style`.
    """

    methods: tuple[str, ...] = (METHOD,)
    opacity: float = 0.6
    threshold: float = 0.0
    colours: str = AUTOMATIC
    interpolation: str = "bilinear"
    lines: bool = False
    shared: bool = True

    @classmethod
    def of(cls, *values: Any) -> "Asked":
        """From the values of the controls, in the order of the fields."""
        from gradtoken.methods import METHODS

        given = dict(zip((field.name for field in fields(cls)), values, strict=True))
        methods, colours, smooth = given["methods"], given["colours"], given["interpolation"]
        if not isinstance(methods, Sequence) or isinstance(methods, str) or not methods:
            raise BadTarget("choose at least one method")
        if colours not in COLOURS:
            raise UnknownName.among("colour map on this page", colours, COLOURS)
        if smooth not in INTERPOLATIONS:
            raise UnknownName.among("interpolation", smooth, INTERPOLATIONS)
        given["methods"] = tuple(METHODS[name].name for name in dict.fromkeys(map(str, methods)))
        given |= {name: share(given[name], name) for name in ("opacity", "threshold")}
        return cls(**given | {name: bool(given[name]) for name in ("lines", "shared")})

    def style(self, classes: int) -> dict[str, Any]:
        """Options of the drawing that are not what they are anyway. classes: how many are side by side."""
        wanted = {
            "opacity": self.opacity,
            "threshold": self.threshold or None,
            "colours": None if self.colours == AUTOMATIC else self.colours,
            "interpolation": self.interpolation,
            "lines": self.lines,
            "shared_scale": self.shared and classes > 1,
        }
        usual = Style()
        return {name: value for name, value in wanted.items() if value != getattr(usual, name)}


def share(value: Any, name: str) -> float:
    """A number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise BadTarget(f"expected {name} from 0 to 1, got {value!r}")
    return round(float(value), 4)
