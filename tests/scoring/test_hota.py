"""HOTA of one class, on tracks to follow by hand."""

from __future__ import annotations

import numpy as np
from hota_reference import Step, hota

from harness.scoring.hota import ALPHAS, combine


def test_hota_of_a_perfect_and_of_a_switched_track() -> None:
    one, two = np.array([1]), np.array([2])
    same = np.ones((1, 1))
    perfect = hota([Step(one, one, same)] * 2).values()
    assert all((perfect[k] == 1).all() for k in ("HOTA", "DetA", "AssA", "LocA", "OWTA"))
    switched = hota([Step(one, one, same), Step(one, two, same)]).values()
    assert (switched["DetA"] == 1).all()
    assert (switched["AssA"] == 0.5).all()  # each half agrees with half of the truth
    nothing = hota([Step(one, np.empty(0, np.int64), np.zeros((1, 0)))])
    assert (nothing.fn == 1).all()
    assert (combine([nothing, nothing]).values()["LocA"] == 1).all()
    assert len(ALPHAS) == 19
