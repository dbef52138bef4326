"""Plugins that print wherever they can, and plugins that want to end the program."""

import ctypes
import os
import sys

from pydantic import BaseModel, ConfigDict, field_validator
from somebodys_vis import BrightPixels, DotsPlugin


def say():
    """Print as Python, as a system call and as a C library would."""
    print("NOISE by Python")
    os.write(1, b"NOISE by write\n")
    ctypes.CDLL(None).printf(b"NOISE by C\n")


say()


class Config(BaseModel):
    """Prints when it is read, and when its keys are listed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    threshold: int = 128

    @field_validator("threshold")
    @classmethod
    def leave_at_zero(cls, value):
        say()
        return sys.exit(0) if value == 0 else value

    @classmethod
    def model_json_schema(cls, **options):
        say()
        return super().model_json_schema(**options)


class NoisyModel(BrightPixels):
    """Prints with every video."""

    def predict(self, video, vocabulary):
        say()
        yield from super().predict(video, vocabulary)


class NoisyModelPlugin:
    """The model plugin."""

    name = "noisy"
    version = "1"
    summary = "Finds bright pixels, aloud"
    Config = Config

    def load(self, config, context):
        say()
        return sys.exit(0) if config.threshold == 1 else NoisyModel(config)

    def doctor(self):
        say()
        return {}

    def shipped_weights(self, dataset):
        say()


class Report:
    """What `check` gives."""

    def to_dict(self):
        say()
        return {"complete": True, "splits": []}


class NoisyDatasetPlugin(DotsPlugin):
    """The dataset plugin."""

    name = "noisy"

    def open(self, data_root, split):
        say()
        return super().open(data_root, split)

    def check(self, data_root, split=None):
        say()
        return Report()

    def training_set(self, data_root, split):
        raise SystemExit


class LeavingDatasetPlugin(DotsPlugin):
    """One that cannot be opened or checked."""

    name = "leaving"

    def open(self, data_root, split):
        raise SystemExit("no licence")

    def check(self, data_root, split=None):
        raise SystemExit


class WrongDatasetPlugin(DotsPlugin):
    """One that opens what is no dataset."""

    name = "wrong"

    def open(self, data_root, split):
        return {"videos": []}


MODEL, DATASET = NoisyModelPlugin(), NoisyDatasetPlugin()
LEAVING, WRONG = LeavingDatasetPlugin(), WrongDatasetPlugin()
