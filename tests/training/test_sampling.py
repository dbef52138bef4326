"""The order of a training: repeat factors, and a stream that is the same from any position.

Tests of `harness/training/loader.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.training.loader import Share, Stream, batches
from harness.training.sampling import Order, repeat_factors
from harness.training.types import TrainingImage, TrainingSample


class Numbered:
    """A training set whose images are known by their colour."""

    name, digest, categories = "numbered", "0", ()

    def __init__(self, categories: Sequence[Sequence[int]]) -> None:
        self.present = categories

    def __len__(self) -> int:
        return len(self.present)

    def categories_of(self, item: int) -> Sequence[int]:
        return self.present[item]

    def draw(self, item: int, random: np.random.Generator) -> TrainingImage:
        image = np.full((2, 2, 3), item, np.uint8)
        image[..., 1] = random.integers(256)
        return TrainingImage(str(item), image, ())


def as_it_is(image: TrainingImage, random: np.random.Generator) -> TrainingSample:
    return TrainingSample(image.image, np.zeros((0, 2, 2), bool), np.zeros(0, np.int64))


def test_images_with_rare_categories_are_repeated() -> None:
    # category 0 in all 8 images, category 1 in one: sqrt(0.5 / 0.125) = 2
    numbered = Numbered([[0]] * 7 + [[0, 1]])
    assert repeat_factors(numbered, 0.5).tolist() == [1] * 7 + [2]
    assert repeat_factors(numbered, 0.0).tolist() == [1] * 8
    assert repeat_factors(Numbered([[], [0]]), 0.9).tolist() == pytest.approx([1, (0.9 / 0.5) ** 0.5])


def test_every_image_comes_once_per_epoch_when_none_is_repeated() -> None:
    order = Order(np.ones(10), seed=3)
    epochs = [[order.item(10 * epoch + i) for i in range(10)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_fractions_are_rounded_at_random_to_the_right_mean() -> None:
    order = Order(np.array([1.0, 2.5]), seed=0)
    counts = Counter(order.item(k) for k in range(3500))
    assert counts[1] / counts[0] == pytest.approx(2.5, rel=0.05)


@given(
    factors=st.lists(st.floats(1, 3), min_size=1, max_size=6),
    seed=st.integers(0, 9),
    positions=st.lists(st.integers(0, 60), min_size=1),
)
def test_a_position_holds_the_same_item_whatever_was_asked_before(
    factors: list[float], seed: int, positions: list[int]
) -> None:
    order = Order(np.array(factors), seed)
    assert [order.item(k) for k in positions] == [Order(np.array(factors), seed).item(k) for k in positions]


@pytest.mark.parametrize(("processes", "parts"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)])
def test_processes_and_parts_share_a_step_without_overlap(processes: int, parts: int) -> None:
    shares = [Share(8, rank, processes, parts).positions(5) for rank in range(processes)]
    step = [position for share in shares for _ in range(parts) for position in next(share)]
    assert sorted(step) == list(range(40, 48))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_begun_later_gives_the_same_samples(workers: int) -> None:
    def drawn(first: int, count: int) -> list[np.ndarray]:
        stream = Stream(Numbered([[0]] * 5), as_it_is, Order(np.ones(5), 1), seed=1)
        feed = batches(stream, Share(2), first, workers)
        return [sample.image for _ in range(count) for sample in next(feed)]

    whole, later = drawn(0, 6), drawn(3, 3)
    assert np.array_equal(whole[6:], later)
    assert len({image[0, 0, 1] for image in whole}) > 6


def test_seeds_differ() -> None:
    one, two = (Order(np.ones(50), seed) for seed in (0, 1))
    assert [one.item(k) for k in range(50)] != [two.item(k) for k in range(50)]
