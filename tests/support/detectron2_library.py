"""detectron2 for tests: the real one where it is installed, else a minimal stand-in for its interfaces."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
STAND_IN, PROJECT = DATA / "detectron2_stand_in", DATA / "detectron2_project"
_ADAPTER = "harness.baselines.detectron2_adapter"


@contextmanager
def library() -> Iterator[None]:
    """Make detectron2 importable; a stand-in, and what was imported with it, is gone afterwards."""
    if importlib.util.find_spec("detectron2") is not None:
        yield
        return
    sys.path.insert(0, str(STAND_IN))
    try:
        yield
    finally:
        sys.path[:] = [folder for folder in sys.path if folder not in (str(STAND_IN), str(PROJECT))]
        for name in list(sys.modules):
            if name.partition(".")[0] in ("detectron2", "colour_project") or name.startswith(f"{_ADAPTER}."):
                del sys.modules[name]
