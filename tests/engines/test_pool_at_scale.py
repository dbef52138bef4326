"""The pool with a thousand simulated workers: they are kept busy, and their losses cost little."""

from __future__ import annotations

from simulated_backend import SimulatedBackend, by_frames, made_videos, simulate

VIDEOS, WORKERS = made_videos(6000), 1000


def test_a_thousand_workers_end_within_one_video_of_the_best_possible() -> None:
    backend = SimulatedBackend(WORKERS, by_frames(0.1, spread=0))
    made = simulate(VIDEOS, backend)
    lengths = [len(video.frames) for video in VIDEOS]
    best, longest = 0.1 * sum(lengths) / WORKERS, 0.1 * max(lengths)
    assert (made.done, made.given_up, made.losses) == (len(VIDEOS), 0, 0)
    assert best <= made.seconds <= best + longest


def test_a_thousand_workers_that_are_lost_again_and_again_end_all_videos() -> None:
    backend = SimulatedBackend(WORKERS, by_frames(0.1), load_seconds=5, seconds_to_loss=300)
    made = simulate(VIDEOS, backend)
    assert made.losses > 30
    assert made.done + made.given_up == len(VIDEOS)
    assert made.given_up <= 3
    assert simulate(VIDEOS, SimulatedBackend(WORKERS, by_frames(0.1), 5, 300)) == made
