"""One binary mask, as everything here carries it."""

from __future__ import annotations

from typing import NamedTuple


class Rle(NamedTuple):
    """One binary mask as a COCO run-length encoding (column-major, runs start with zeros).

    ``size`` is ``(height, width)`` in pixels; ``counts`` is COCO's compressed counts string as ASCII bytes.
    """

    size: tuple[int, int]
    counts: bytes
