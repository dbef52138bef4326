"""Golden arrays: gzipped in the tree, plain in a folder that HARNESS_GOLDEN names."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load
from torch import Tensor


def golden_names(folder: Path, pattern: str) -> list[str]:
    """Paths below ``folder`` that match ``pattern``, without ``.gz``, sorted."""
    found = {*folder.glob(pattern), *folder.glob(f"{pattern}.gz")}
    return sorted({path.relative_to(folder).as_posix().removesuffix(".gz") for path in found})


def read_golden(path: Path) -> bytes:
    """The content of ``path``, or of the gzipped file of this name."""
    zipped = path.with_name(f"{path.name}.gz")
    return gzip.decompress(zipped.read_bytes()) if zipped.exists() else path.read_bytes()


def golden_arrays(path: Path) -> Mapping[str, Any]:
    """The arrays of an ``.npz`` file."""
    return np.load(io.BytesIO(read_golden(path)))  # type: ignore[no-any-return]


def golden_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file."""
    return load(read_golden(path))
