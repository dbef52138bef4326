"""Benchmark and evaluation harness for open-vocabulary video instance segmentation.

Importing this package is fast: the names of `__all__` are imported from `harness.api` on first use, and torch only by a
model that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Metric",
    "compare",
    "evaluate",
    "load_dataset",
    "load_model",
    "open_run",
    "predict",
    "run",
    "run_of_results",
    "table",
]

if TYPE_CHECKING:
    from harness.api import (
        Metric,
        compare,
        evaluate,
        load_dataset,
        load_model,
        open_run,
        predict,
        run,
        run_of_results,
        table,
    )


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("harness.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
