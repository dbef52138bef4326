"""A fixture that writes small copies of datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dataset_copies import Write, annotation_document, write_frames


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a copy: ``write(annotation file, frames folder, category list, ...)``, both below ``tmp_path``."""

    def write_copy(annotations: str, frames: str, category_list: str, **options: Any) -> dict[str, Any]:
        document = annotation_document(category_list, **options)
        path = tmp_path / annotations
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
        if not (tmp_path / frames).exists():
            write_frames(tmp_path / frames)
        return document

    return write_copy
