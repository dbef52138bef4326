"""A training set with fewer categories."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import UserError
from harness.training.types import Instance, TrainingImage
from harness.training.vocabulary import FrequentCategories
from harness.types import Category

SHOWN = [(0, 2), (2, 3), (0,), (3, 3), (4,), ()]
"""Categories of the objects of each image: 0, 2 and 3 are in two, 4 in one, 1 in none."""


class Drawn:
    """Images that show ``SHOWN``."""

    name, digest = "drawn", "d"
    categories = tuple(Category(i + 1, f"thing {i}") for i in range(5))

    def __len__(self) -> int:
        return len(SHOWN)

    def categories_of(self, item: int) -> list[int]:
        return sorted(set(SHOWN[item]))

    def draw(self, item: int, random: np.random.Generator) -> TrainingImage:
        mask = np.ones((2, 2), bool)
        return TrainingImage(f"{item}", np.zeros((2, 2, 3), np.uint8), tuple(Instance(c, mask) for c in SHOWN[item]))


def test_the_most_frequent_are_kept_and_counted_anew() -> None:
    fewer = FrequentCategories(Drawn(), 2)
    assert [category.name for category in fewer.categories] == ["thing 0", "thing 2"]
    images = [fewer.draw(item, np.random.default_rng(0)) for item in range(len(fewer))]
    assert [image.name for image in images] == ["0", "1", "2"]
    assert [[i.category for i in image.instances] for image in images] == [[0, 1], [1], [0]]
    assert [fewer.categories_of(item) for item in range(3)] == [[0, 1], [1], [0]]


def test_another_size_is_another_set() -> None:
    assert len({FrequentCategories(Drawn(), count).digest for count in (1, 2, 3)} | {Drawn.digest}) == 4


def test_more_than_are_shown_are_refused() -> None:
    assert len(FrequentCategories(Drawn(), 4)) == 5
    with pytest.raises(UserError, match="vocabulary_size: is 5, drawn shows objects of 4 categories"):
        FrequentCategories(Drawn(), 5)
