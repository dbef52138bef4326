"""The order of training images: a stream that depends on the seed only and can start at any position.

Repeat-factor sampling (LVIS, Gupta et al., 2019, appendix B.2) shows images with rare categories more often.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.training.types import TrainingSet


def repeat_factors(training_set: TrainingSet, threshold: float) -> NDArray[np.float64]:
    """Return how often each item is shown in an epoch, at least 1: ``(items,)``.

    A category in a share f of the items has the factor max(1, sqrt(threshold / f)); an item has the largest factor of
    its categories.
    """
    items = [set(training_set.categories_of(item)) for item in range(len(training_set))]
    counts = Counter(category for present in items for category in present)
    factor = {c: max(1.0, math.sqrt(threshold * len(items) / count)) for c, count in counts.items()}
    return np.array([max((factor[c] for c in present), default=1.0) for present in items])


@dataclass
class Order:
    """The items of a training in order, epoch after epoch, with a new shuffle in each epoch.

    Repeat factors are rounded up or down at random in each epoch. The item at a position does not depend on earlier
    calls.
    """

    factors: NDArray[np.float64]
    seed: int
    _starts: list[int] = field(default_factory=lambda: [0])
    """Position where each epoch begins."""
    _kept: tuple[int, Sequence[int]] = (-1, ())

    def item(self, position: int) -> int:
        """The item at a position of the stream, counted from 0."""
        while self._starts[-1] <= position:
            self._starts.append(self._starts[-1] + len(self._epoch(len(self._starts) - 1)))
        epoch = int(np.searchsorted(self._starts, position, side="right")) - 1
        return int(self._epoch(epoch)[position - self._starts[epoch]])

    def _epoch(self, epoch: int) -> Sequence[int]:
        if self._kept[0] != epoch:
            random = np.random.default_rng((self.seed, epoch))
            whole = np.floor(self.factors)
            repeats = whole + (random.random(len(whole)) < self.factors - whole)
            items = np.repeat(np.arange(len(whole)), repeats.astype(np.int64))
            self._kept = (epoch, random.permutation(items))  # type: ignore[assignment]
        return self._kept[1]
