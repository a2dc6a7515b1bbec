"""Fonts for the texts in figures: names of classes may be in any script."""

from __future__ import annotations

import logging
from functools import cache

from matplotlib import font_manager

_MAIN = "DejaVu Sans"  # part of matplotlib; it has no Chinese, Japanese or Korean letters
# Fonts that have them, as Linux, macOS and Windows bring them.
_EAST_ASIAN = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans CJK TC", "Source Han Sans SC"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback"),
    *("PingFang SC", "Hiragino Sans", "Hiragino Sans GB", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
)

# Many of these have one weight. That a bold title is not bold is not worth a warning.
logging.getLogger(font_manager.__name__).addFilter(
    lambda record: "Failed to find font weight" not in record.getMessage()
)


@cache
def families() -> list[str]:
    """Return the font families of a figure: for each letter, the first one that has it is taken."""
    if not (found := _installed()):
        _add_new_fonts()
        found = _installed()
    return [_MAIN, *found]


def _installed() -> list[str]:
    names = set(font_manager.fontManager.get_font_names())
    return [family for family in _EAST_ASIAN if family in names]


def _add_new_fonts() -> None:
    """Add fonts that were installed after matplotlib had listed those of this machine."""
    listed = {font.fname for font in font_manager.fontManager.ttflist}
    for file in set(font_manager.findSystemFonts()) - listed:
        try:
            font_manager.fontManager.addfont(file)
        except (OSError, RuntimeError):  # a font that matplotlib cannot read
            continue
