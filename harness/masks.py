"""Binary masks as run-length encodings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Rle(NamedTuple):
    """One binary mask as a COCO run-length encoding (column-major, runs start with zeros).

    ``size`` is ``(height, width)`` in pixels; ``counts`` is COCO's compressed counts string as ASCII bytes.
    """

    size: tuple[int, int]
    counts: bytes

    @classmethod
    def encode(cls, mask: NDArray[np.bool_]) -> Rle:
        """Encode a mask ``(height, width)``; pixels that are not 0 belong to the object."""
        import numpy as np
        from pycocotools import mask as coco

        pixels = np.asfortranarray(np.asarray(mask) != 0, np.uint8)
        return cls((pixels.shape[0], pixels.shape[1]), coco.encode(pixels)["counts"])

    def decode(self) -> NDArray[np.bool_]:
        """The pixels of the mask, ``(height, width)``."""
        import numpy as np
        from pycocotools import mask as coco

        return np.asarray(coco.decode({"size": list(self.size), "counts": self.counts}), np.bool_)

    def __repr__(self) -> str:
        return f"Rle({self.size[0]}x{self.size[1]}, {len(self.counts)} bytes)"
