"""Identities in videos of moving rectangles: each tracker does what it is for, and fails where it must.

Tests of `baselines/track_by_detection/config.py` and `baselines/track_by_detection/embedding.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
from track_scenes import LOOKS, WORDS, Scene, Thing, moving

from harness.baselines.track_by_detection.config import TrackingConfig
from harness.baselines.track_by_detection.model import TrackByDetection

ALL = ("mask_iou", "sort", "embedding")


def identities(scene: Scene, **settings: object) -> list[list[int | None]]:
    """What each track follows, frame by frame, in the order of the things."""
    found = TrackByDetection(scene, TrackingConfig(**settings)).predict(scene.video, WORDS)
    return sorted((scene.best_match(track) for track in found), key=str)


def whole(thing: int, scene: Scene) -> list[int | None]:
    """A thing that is followed wherever it is seen."""
    return [thing if seen else None for seen in (scene.visible(f)[thing].any() for f in range(len(scene.video.frames)))]


def truth(scene: Scene) -> list[list[int | None]]:
    return sorted((whole(i, scene) for i in range(len(scene.things))), key=str)


@pytest.mark.parametrize("tracker", ALL)
def test_two_that_pass_each_other(tracker: str) -> None:
    scene = Scene([
        Thing(moving((4, 10, 36, 50), (6, 0), 15), LOOKS[0]),
        Thing(moving((92, 44, 124, 84), (-6, 0), 15), LOOKS[1]),
    ])  # fmt: skip
    assert identities(scene, tracker=tracker) == truth(scene)


@pytest.mark.parametrize(("tracker", "is_right"), [("sort", True), ("embedding", True), ("mask_iou", False)])
def test_one_that_crosses_behind_another(tracker: str, is_right: bool) -> None:
    """The one behind is not found in three frames, in which it moves by more than its width."""
    scene = Scene([
        Thing(moving((92, 20, 120, 76), (-4, 0), 13), LOOKS[0]),
        Thing(moving((4, 36, 24, 60), (8, 0), 13, hidden=(6, 7, 8)), LOOKS[1]),
    ])  # fmt: skip
    assert (identities(scene, tracker=tracker) == truth(scene)) is is_right


@pytest.mark.parametrize("tracker", ALL)
@pytest.mark.parametrize(("max_age", "tracks"), [(4, 1), (3, 1), (2, 2), (0, 2)])
def test_one_that_rests_is_found_again_within_the_age(tracker: str, max_age: int, tracks: int) -> None:
    """Absent in three frames: frames without the object have no mask, and a younger limit makes two tracks of it."""
    scene = Scene([Thing(moving((40, 40, 80, 80), (0, 0), 10, hidden=(3, 4, 5)))])
    found = identities(scene, tracker=tracker, max_age=max_age)
    assert len(found) == tracks
    if tracks == 1:
        assert found == [[0, 0, 0, None, None, None, 0, 0, 0, 0]]
    else:
        assert found == [[0, 0, 0, *[None] * 7], [*[None] * 6, 0, 0, 0, 0]]


@pytest.mark.parametrize(("tracker", "tracks"), [("sort", 1), ("embedding", 1), ("mask_iou", 2)])
def test_one_that_moves_is_found_again_where_it_is_expected(tracker: str, tracks: int) -> None:
    scene = Scene([Thing(moving((4, 40, 34, 70), (9, 0), 11, hidden=(5, 6, 7)))])
    assert len(identities(scene, tracker=tracker)) == tracks


@pytest.mark.parametrize(("tracker", "tracks"), [("sort", 2), ("embedding", 1), ("mask_iou", 2)])
def test_one_that_jumps_is_known_by_its_look(tracker: str, tracks: int) -> None:
    boxes = moving((4, 4, 34, 34), (0, 0), 4) + moving((90, 60, 120, 90), (0, 0), 4)
    assert len(identities(Scene([Thing(boxes)]), tracker=tracker)) == tracks


@pytest.mark.parametrize("tracker", ["mask_iou", "sort"])
def test_twins_are_told_apart_by_place(tracker: str) -> None:
    """Three that look and score the same."""
    scene = Scene([Thing(moving((8, 4 + 30 * i, 40, 30 + 30 * i), (4, 0), 12)) for i in range(3)])
    assert identities(scene, tracker=tracker) == truth(scene)


def test_looks_that_drift_are_followed() -> None:
    """From frame to frame a look turns a little, in the end to the opposite; another one stays."""
    angles = np.linspace(0, np.pi, 12)

    class Drifting(Scene):
        def frames(self, video, vocabulary):  # type: ignore[no-untyped-def]
            for f, frame in enumerate(super().frames(video, vocabulary)):
                turned = frame.embeddings.clone()
                turned[turned[:, 0] == 1] = turned.new_tensor([np.cos(angles[f]), 0, np.sin(angles[f]), *[0] * 5])
                yield frame._replace(embeddings=turned)

    jumps = [(4.0, 4.0, 34.0, 34.0), (90.0, 4.0, 120.0, 34.0)] * 6
    stays = moving((40, 50, 70, 90), (0, 0), 12)
    scene = Drifting([Thing(jumps, LOOKS[0]), Thing(stays, LOOKS[1])])
    assert identities(scene, tracker="embedding") == truth(scene)


def test_the_lowest_total_cost_decides_not_the_first_come() -> None:
    """The left one comes to lie mostly where the right one was, which would leave the right one without a track."""
    scene = Scene([Thing(moving((4 + 32 * i, 20, 36 + 32 * i, 60), (20, 0), 2)) for i in range(2)])
    assert identities(scene, tracker="mask_iou", iou_threshold=0.2) == [[0, 0], [1, 1]]


def test_without_limits_all_queries_are_linked_as_in_minvis() -> None:
    looks = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    boxes = [(4.0, 4.0, 20.0, 20.0), (60.0, 4.0, 80.0, 20.0), (4.0, 60.0, 20.0, 80.0), (90.0, 60.0, 120.0, 80.0)]
    things = [Thing([*boxes[i:], *boxes[:i]], looks[i], lambda f: (0.0, 0.001, 0.0)) for i in range(4)]
    free = {"score_threshold": 0, "duplicate_iou": 1, "embedding_cost": 2}
    assert identities(Scene(things), tracker="embedding", **free) == [[i] * 4 for i in range(4)]
