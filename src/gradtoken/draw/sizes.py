"""How large everything in a table of maps is, on the screen and in print."""

from dataclasses import dataclass

from gradtoken.draw.sheet import PRINT, SCREEN


@dataclass(frozen=True)
class Sizes:
    """Inches, and points of fonts. wide, low, high: a panel's width, its smallest and its largest height.

    names: room at the left for the names of the rows; with 0 they stand above their rows. most: columns side by side,
    the picture included; more go below. letters: of the numbers below a bar. foot: whether the caption is drawn.
    """

    wide: float = 1.45
    low: float = 0.55
    high: float = 1.9
    names: float = 1.3
    gap: float = 0.1
    margin: float = 0.1
    below: float = 0.24  # the bar of the colours
    line: float = 0.14
    small_line: float = 0.11
    title: float = 8.0
    small: float = 6.5
    most: int = 9
    letters: int = 24
    foot: bool = True
    dpi: int = SCREEN

    @classmethod
    def printed(cls, width: float, columns: int) -> "Sizes":
        """For a sheet of exactly this width: 7 and 6 points, names above the rows, the caption left to the text."""
        gap, margin = 0.06, 0.01
        most = max(1, int((width - 2 * margin + gap) / (0.7 + gap)))
        each = -(-columns // -(-columns // most))
        wide = (width - 2 * margin + gap) / each - gap
        letters = int(wide / (0.65 * 6 / 72)) - 1
        fonts = {"title": 7.0, "small": 6.0, "line": 0.115, "small_line": 0.095}
        return cls(
            wide, 0.4, 1.25 * wide, 0, gap, margin, 0.24, most=each, letters=letters, foot=False, dpi=PRINT, **fonts
        )
