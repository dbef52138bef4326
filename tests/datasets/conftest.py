"""A fixture that writes small copies of datasets."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from dataset_copies import Write, write_copy


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a copy: ``write(annotation file, frames folder, category list, ...)``, both below ``tmp_path``."""
    return partial(write_copy, tmp_path)
