"""Many tokens of a map as one picture, in which each is a dot: a browser moves a picture for nothing, and many points for much.

It knows no token: in come places, out goes a PNG, and where it belongs.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np

#: Pixels of a picture along its longer side: about three for each of a map's, so that it can be enlarged.
SIDE = 2400
#: Half of a dot's width in pixels, and how much of what is behind a dot it hides.
RADIUS, OPACITY = 3.2, 0.4


@dataclass(frozen=True)
class Picture:
    """A PNG as an address that holds it (``source``), and the rectangle of the map that it fills: ``low`` and ``high`` are its
    corners, (x, y)."""

    source: str
    low: tuple[float, float]
    high: tuple[float, float]


def dots(xy: np.ndarray, colour: str) -> Picture:
    """The picture of places (n, 2), n at least 1, as dots of a colour (``#rrggbb``). Where many lie on each other it is denser."""
    low, high = xy.min(axis=0).astype(float), xy.max(axis=0).astype(float)
    unit = float(max((high - low).max(), 1e-9)) / SIDE  # of the map, a pixel
    edge = math.ceil(RADIUS) + 1
    wide, tall = (math.ceil(s) + 2 * edge + 1 for s in (high - low) / unit)
    places = np.floor((xy - low) / unit).astype(np.int64) + edge
    cells, many = np.unique((tall - 1 - places[:, 1]) * wide + places[:, 0], return_counts=True)
    hidden = np.zeros(tall * wide, np.float32)
    for row in range(-edge, edge + 1):
        for column in range(-edge, edge + 1):
            share = min(1.0, RADIUS + 0.5 - math.hypot(row, column))  # soft at the rim
            if share > 0:
                hidden[cells + row * wide + column] += np.float32(share) * many.astype(np.float32)
    shades = np.rint(255 * (1 - (1 - OPACITY) ** hidden)).astype(np.uint8).reshape(tall, wide)
    corner = low - edge * unit
    source = "data:image/png;base64," + base64.b64encode(_png(shades, colour)).decode()
    return Picture(source, (corner[0], corner[1]), (corner[0] + wide * unit, corner[1] + tall * unit))


def _png(shades: np.ndarray, colour: str) -> bytes:
    """A PNG of one colour, uint8 (h, w) saying how much of it is seen: a palette whose entries differ in nothing else."""
    from PIL import Image

    image = Image.fromarray(shades, "L")
    image.putpalette(bytes.fromhex(colour.removeprefix("#")) * 256)
    written = io.BytesIO()
    image.save(written, "PNG", transparency=bytes(range(256)))
    return written.getvalue()
