"""Objects of an image, and kinds of boxes."""

from enum import IntEnum


class BoxMode(IntEnum):
    XYXY_ABS = 0
    XYWH_ABS = 1


class Instances:
    def __init__(self, image_size, **fields):
        self._fields = fields
        self.image_size = image_size

    def __getattr__(self, name):
        if name == "_fields" or name not in self._fields:
            raise AttributeError(f"Cannot find field '{name}' in the given Instances!")
        return self._fields[name]

    def __len__(self):
        return len(next(iter(self._fields.values())))
