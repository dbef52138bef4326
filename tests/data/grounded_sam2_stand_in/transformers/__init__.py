"""A stand-in for Grounding DINO of transformers: it finds the colour that a prompt begins with."""

import numpy as np
import torch

COLOURS = {"red": (220, 40, 40), "blue": (40, 40, 220)}


class Inputs(dict):
    """A prompt and an image."""

    def to(self, device):
        return self

    @property
    def input_ids(self):
        return self["input_ids"]


class AutoProcessor:
    """Prepares a prompt and an image, and reads boxes."""

    @classmethod
    def from_pretrained(cls, name):
        assert name == "small"
        return cls()

    def __call__(self, images, text, return_tensors):
        assert text == text.lower()
        assert text.endswith(".")
        return Inputs(image=np.asarray(images), input_ids=text)

    def post_process_grounded_object_detection(self, outputs, input_ids, threshold, text_threshold, target_sizes):
        kept = [box for box in outputs if threshold < 0.75]
        return [{"boxes": torch.tensor(kept).reshape(-1, 4), "scores": torch.full((len(kept),), 0.75)}]


class AutoModelForZeroShotObjectDetection:
    """Boxes around a colour."""

    @classmethod
    def from_pretrained(cls, name, output_loading_info):
        return cls(), {"missing_keys": {"b"}, "unexpected_keys": {"extra"}}

    def to(self, device):
        return self

    def eval(self):
        return self

    def state_dict(self):
        return {"a": 1, "b": 2}

    def __call__(self, image, input_ids):
        colour = COLOURS.get(input_ids.split()[0])
        rows, columns = np.nonzero((image == colour).all(2)) if colour else ((), ())
        return [[min(columns), min(rows), max(columns) + 1, max(rows) + 1]] if len(rows) else []
