"""Counted warnings: oddities of the input, with their count and first place."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from typing import Any

from harness.errors import UserError


def tolerate_warnings_of_libraries() -> None:
    """Limit Python's ``-W error`` to warnings of the harness: those of libraries are nothing that a user can change."""
    if any(option.partition(":")[0] == "error" for option in sys.warnoptions):
        warnings.filterwarnings("default", module=r"(?!harness(\.|$))")


@dataclass
class Warnings:
    """Oddities by kind. With ``strict`` the first one raises `UserError`."""

    strict: bool = False
    found: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, kind: str, first: str, count: int = 1) -> None:
        """Count ``count`` oddities of a kind; ``first`` names the first of them (file and record)."""
        if count <= 0:
            return
        if self.strict:
            raise UserError(first, kind, f"correct it or turn off strict ({count} in all so far)")
        self.tell(kind, first, count)

    def tell(self, kind: str, first: str, count: int = 1) -> None:
        """Count a notice, which is not a fault of the input and so never an error, even with ``strict``."""
        before, earlier = self.found.get(kind, (0, first))
        self.found[kind] = (before + count, earlier)

    def record(self) -> list[dict[str, Any]]:
        """The warnings as data, sorted by kind: ``[{"kind", "count", "first"}]``."""
        return [{"kind": k, "count": c, "first": f} for k, (c, f) in sorted(self.found.items())]
