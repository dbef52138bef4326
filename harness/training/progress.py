"""Progress of a training: the report of each step, and the log that a resumed training continues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from harness.atomic_write import write_atomically
from harness.input_files import TABLE_BYTES, decode_json, read_file

LOG = "log.jsonl"
VALIDATION = "validation"
"""Folder with the run folders of validations, in the folder of the training."""


@dataclass(frozen=True, slots=True)
class Step:
    """Means over the steps since the last report."""

    step: int
    """Steps done."""
    iterations: int
    losses: Mapping[str, float]
    rate: float
    """Learning rate."""
    gradient: float
    """L2 norm of the gradient before clipping."""
    seconds: float
    """Per step."""

    @property
    def seconds_left(self) -> float:
        return self.seconds * (self.iterations - self.step)


@dataclass
class Means:
    """Accumulates means of values by name."""

    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def take(self) -> dict[str, float]:
        """Return the means by name and reset them."""
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


def cut_log(folder: Path, step: int) -> None:
    """Remove the lines after ``step``: a resumed training writes them again."""
    path = folder / LOG
    if not path.exists():
        return
    kept = []
    for line in read_file(path, TABLE_BYTES).decode("utf-8", "replace").splitlines():
        try:
            record = decode_json(line.encode())
        except msgspec.MsgspecError:  # a killed process left half a line
            break
        if record["step"] > step:
            break
        kept.append(line)
    write_atomically(path, "".join(f"{line}\n" for line in kept).encode())


def append_log(folder: Path, record: Mapping[str, Any]) -> None:
    """Append a record as a line of JSON."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, allow_nan=False) + "\n")
