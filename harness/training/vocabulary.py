"""A training set with fewer categories, for ablations of the training vocabulary."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from harness.errors import UserError
from harness.training.types import TrainingImage, TrainingSet


class FrequentCategories:
    """The objects of the ``count`` most frequent categories of ``whole``, by number of items; other items are left out.

    A smaller vocabulary is a subset of a larger one; ties are broken by position. Raises `UserError` if the set has
    objects of fewer categories.
    """

    def __init__(self, whole: TrainingSet, count: int) -> None:
        self.whole, self.name = whole, whole.name
        shown = [whole.categories_of(item) for item in range(len(whole))]
        items = np.bincount([c for found in shown for c in found], minlength=len(whole.categories))
        if count > (items > 0).sum():
            what = f"is {count}, {whole.name} shows objects of {(items > 0).sum()} categories"
            raise UserError("vocabulary_size", what, "lower it, or leave it out to train on all")
        kept = np.sort(np.argsort(-items, kind="stable")[:count]).tolist()
        self.categories = tuple(whole.categories[position] for position in kept)
        self._position = {old: new for new, old in enumerate(kept)}
        self._items = [item for item, found in enumerate(shown) if not self._position.keys().isdisjoint(found)]
        self.digest = hashlib.sha256(f"{whole.digest} {count}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._items)

    def categories_of(self, item: int) -> Sequence[int]:
        """Positions, in the reduced list, of the categories that occur in an item."""
        return [self._position[c] for c in self.whole.categories_of(self._items[item]) if c in self._position]

    def draw(self, item: int, random: np.random.Generator) -> TrainingImage:
        """Read an item of the whole set, without the objects of other categories."""
        image = self.whole.draw(self._items[item], random)
        instances = (i._replace(category=self._position[i.category]) for i in image.instances
                     if i.category in self._position)  # fmt: skip
        return image._replace(instances=tuple(instances))
