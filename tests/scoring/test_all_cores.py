"""Work on all cores: each item once, and errors are raised."""

from __future__ import annotations

import os

import numpy as np
import pytest

from harness.scoring.all_cores import on_all_cores


@pytest.mark.parametrize("cores", [None, 1, 3, 64])
@pytest.mark.parametrize("items", [0, 1, 2, 100])
def test_each_item_is_worked_on_once(monkeypatch: pytest.MonkeyPatch, cores: int | None, items: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    times = np.zeros(items, np.int64)

    def work(part: np.ndarray) -> None:
        times[part] += 1

    on_all_cores(work, items)
    assert (times == 1).all()


def test_an_error_of_the_work_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        on_all_cores(lambda part: 1 // 0, 2)
