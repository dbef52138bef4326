"""How many faults the fault suite injects: ``HARNESS_FAULTS=200 pytest tests/faults`` for many; by default a few."""

from __future__ import annotations

import os

FAULTS = int(os.environ.get("HARNESS_FAULTS", "4"))
"""Number of faults per test and engine, at least 1."""
