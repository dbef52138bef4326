"""Reading a training file of LVIS v1's size (1.1 GB, written by the test).

``pytest tests/benchmarks/test_instance_file_speed.py --benchmark-enable``; elsewhere the case runs on a small file.
``extra_info`` has the size of the file and the memory that reading it added (anonymous pages, at the end).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
from instance_documents import write_large

from harness.training.image_sets import ImageSet
from harness.training.instance_file import read_instances
from harness.training.sampling import repeat_factors

OFFICIAL = 100_170, 1_270_141
SMALL = 200, 3000
"""What is read where benchmarks are off."""


def anonymous_bytes() -> int:
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def test_opening_a_file_of_lvis(benchmark: Any, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    benchmark.group = "open a training file of LVIS v1's size"
    images, annotations = OFFICIAL if request.config.getoption("benchmark_enable") else SMALL
    path = tmp_path / "lvis_v1_train.json"
    write_large(path, images, annotations)
    before = anonymous_bytes()
    found = benchmark.pedantic(lambda: ImageSet("lvis", read_instances(path), tmp_path, "train2017", ("r",)), rounds=1)
    benchmark.extra_info |= {"file_bytes": path.stat().st_size, "memory_bytes": anonymous_bytes() - before}
    assert 0 < len(found) <= images
    assert repeat_factors(found, 0.001).min() == 1
