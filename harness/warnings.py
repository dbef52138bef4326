"""Counted warnings: what was odd in the input, how often, and where first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.errors import UserError


@dataclass
class Warnings:
    """Oddities by kind. With ``strict`` the first one is a `UserError` instead."""

    strict: bool = False
    found: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, kind: str, first: str, count: int = 1) -> None:
        """Count ``count`` oddities of a kind; ``first`` names the first of them (file and record)."""
        if count <= 0:
            return
        if self.strict:
            raise UserError(first, kind, f"correct it or leave out --strict ({count} in all so far)")
        self.tell(kind, first, count)

    def tell(self, kind: str, first: str, count: int = 1) -> None:
        """Count what is worth knowing and no fault of the input: it is no error with ``strict`` either."""
        before, earlier = self.found.get(kind, (0, first))
        self.found[kind] = (before + count, earlier)

    def record(self) -> list[dict[str, Any]]:
        """As data: ``[{"kind", "count", "first"}]`` by kind."""
        return [{"kind": k, "count": c, "first": f} for k, (c, f) in sorted(self.found.items())]
