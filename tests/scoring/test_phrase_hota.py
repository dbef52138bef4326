"""HOTA of many sequences at once equals HOTA of each."""

from __future__ import annotations

import numpy as np
from hota_reference import Step, hota

from harness.scoring.phrase_hota import LIMITS, PresentFrames, Sequences, hota_of_sequences


def test_hota_of_many_sequences_equals_that_of_time_steps() -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        steps, n_g, n_p = int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(rng.integers(1, 4))
        similarity = np.round(rng.random((steps, n_g, n_p)), 1) * (rng.random((steps, n_g, n_p)) < 0.7)
        g, p = rng.random((steps, n_g)) < 0.8, rng.random((steps, n_p)) < 0.8
        wanted = hota([
            Step(np.flatnonzero(g[f]), np.flatnonzero(p[f]), similarity[f][g[f]][:, p[f]]) for f in range(steps)
        ])  # fmt: skip
        by_track = np.ascontiguousarray(similarity.transpose(2, 0, 1)).reshape(-1)
        truths = PresentFrames(np.arange(n_g + 1) * steps, g.T.reshape(-1))
        tracks = PresentFrames(np.arange(n_p + 1) * steps, p.T.reshape(-1))
        one = Sequences(
            np.array([steps]), np.array([0, n_g]), np.arange(n_g), np.arange(n_g), np.arange(n_g), np.array([0, n_p]),
            np.arange(n_p), np.full(n_p, n_g), np.arange(n_p + 1) * steps * n_g, by_track,
        )  # fmt: skip
        found = hota_of_sequences(one, truths, tracks, LIMITS).values()
        for key, values in wanted.values().items():
            np.testing.assert_allclose(found[key][0], values, rtol=0, atol=1e-12, err_msg=key)
