"""Example data for the tests of figures, and functions that read figures back."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from cifar_exp.config.architecture import LayerRow

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ROWS = [
    LayerRow("Conv2D", "32 filters 3x3, relu, same", "32 x 32 x 32", 896, 0),
    LayerRow("SeparableConv2D", "32 filters 3x3, linear, same", "32 x 32 x 32", 1344, 1),
    LayerRow("BatchNormalization", "momentum 0.99", "32 x 32 x 32", 128, 1),
    LayerRow("GlobalAveragePooling2D", "", "32", 0, 0),
    LayerRow("SpatialDropout2D", "rate 0.3", "32", 0, 0),
    LayerRow("Flatten", "", "32", 0, 0),
    LayerRow("Dense", "1000 units, softmax", "1000", 1234567, 0),
]


def history(epochs: int, best: float = 0.8) -> dict[str, list[float]]:
    """A history whose metrics improve in every epoch."""
    accuracy = [best * (epoch + 1) / epochs for epoch in range(epochs)]
    loss = [2.3 - value for value in accuracy]
    return {
        "train/loss": loss,
        "train/accuracy": accuracy,
        "val/loss": loss,
        "val/accuracy": accuracy,
        "train/learning_rate": [0.001] * epochs,
    }


def texts(figure: Figure) -> list[str]:
    """Draw the figure and return all of its texts."""
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


def png_size(png: bytes) -> tuple[int, int]:
    """Width and height from a PNG's header."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def boxes_of(figure: Figure, texts: Iterable[Text]) -> list[Bbox]:
    """Extents of the texts that show something."""
    figure.draw_without_rendering()
    return [text.get_window_extent() for text in texts if text.get_text()]
