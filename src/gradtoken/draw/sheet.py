"""The paper that figures are drawn on: one set of fonts, and files whose fonts are part of them."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure

FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Hiragino Sans", "Microsoft YaHei")
SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "gradtoken", "pdf.fonttype": 42, "ps.fonttype": 42}
SETTINGS |= {"text.usetex": False, "text.parse_math": False, "text.color": "black"}
SETTINGS |= {"savefig.bbox": None, "savefig.transparent": False}
LOCK = threading.RLock()  # matplotlib's settings are global
SCREEN, PRINT = 200, 300  # pixels to the inch


class Sheet(Figure):
    """A white matplotlib figure that keeps its size and its fonts however it is saved, and shows itself in a notebook.

    PDF and PostScript embed the fonts as TrueType (type 42), which publishers ask for; SVG keeps text as text.
    """

    def __init__(self, width: float, height: float, dpi: float = SCREEN) -> None:
        super().__init__(figsize=(width, height), dpi=dpi, facecolor="white")

    def savefig(self, fname: Any, **options: Any) -> None:
        """As matplotlib's, under the settings of this package."""
        with settings():
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=SCREEN)
        return buffer.getvalue()


@contextmanager
def settings(**more: Any) -> Iterator[None]:
    """Settings of matplotlib that figures need, whatever the caller has set."""
    with LOCK:
        known = {font.name for font in font_manager.fontManager.ttflist}
        fonts = [name for name in FONTS if name in known]
        with rc_context({**SETTINGS, "font.family": fonts, **more}):
            yield
