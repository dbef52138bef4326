"""Tests of what a model begins of the next video."""

from __future__ import annotations

import time
from typing import Any

from harness.models.shared.windows import WINDOWS_BEGUN, WindowedModel


def wait_until_decoded(model: WindowedModel[Any]) -> None:
    """Wait until the frames of all windows that may be begun are decoded, for each video that the model expects."""
    until = time.monotonic() + 60
    for each in model._expected:
        while not each.reader.has_decoded(WINDOWS_BEGUN * model._window):
            assert time.monotonic() < until, "its frames are not being decoded"
            time.sleep(0.001)
