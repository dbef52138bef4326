"""Resizing of frames."""

import numpy as np
from PIL import Image


class _Resize:
    def __init__(self, height, width):
        self.height, self.width = height, width

    def apply_image(self, image):
        assert image.flags["C_CONTIGUOUS"]
        return np.asarray(Image.fromarray(image).resize((self.width, self.height), Image.BILINEAR))


class ResizeShortestEdge:
    def __init__(self, short_edge_length, max_size):
        self.short, self.long = short_edge_length[0], max_size

    def get_transform(self, image):
        height, width = image.shape[:2]
        scale = min(self.short / min(height, width), self.long / max(height, width))
        return _Resize(int(height * scale + 0.5), int(width * scale + 0.5))
