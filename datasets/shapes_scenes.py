"""The scenes of `shapes`: the objects, their motion and their pixels.

Everything follows from the split's name and the video's number. Numbers are drawn with `random.Random.random`, whose
stream is the same in every Python, and outlines are rounded to 1/256 pixel before they are filled with integer
arithmetic: the truth, and so the dataset's digest, is the same everywhere.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 192, 256
SEED = "shapes-2"
"""Part of every random choice: another dataset needs another seed."""
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
TEXTURES = ("striped", "dotted", "checkered")
LOOKS = COLOURS + TEXTURES
FORMS = ("circle", "ring", "square", "triangle", "star", "cross")
NAMES = tuple(f"{look} {form}" for look in LOOKS for form in FORMS)
NOVEL = tuple(f"{look} {form}" for i, look in enumerate(LOOKS) for j, form in enumerate(FORMS) if (2 * i + j) % 3 == 0)
"""A third of the categories: every look and every form is known from other pairs, the pair itself is not."""
VIDEOS = {"train": 600, "val": 150, "test": 18}

Pixels = NDArray[np.bool_]
UNIT = 256
"""Outlines are rounded to this fraction of a pixel."""


class Pose(NamedTuple):
    """Where an object is in one frame: centre ``(x, y)`` and radius in pixels, angle in radians."""

    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True, slots=True)
class Body:
    """One object: what it is and how it moves. Lengths in pixels, times in frames."""

    name: str
    seed: int
    """What its exact colours are drawn from."""
    radius: float
    start: tuple[float, float]
    velocity: tuple[float, float]
    sway: float
    """Amplitude of its deviation from a straight path."""
    pulse: float
    """Amplitude of the change of its radius, a fraction."""
    period: float
    """Time that a sway or a pulse takes."""
    angle: float
    spin: float

    def pose(self, frame_index: int) -> Pose:
        """Its position: it turns back some distance outside the frame, so it may leave for some frames."""
        margin = 1.2 * self.radius
        phase = 2 * math.pi * frame_index / self.period
        x = _bounce(self.start[0] + frame_index * self.velocity[0], -margin, WIDTH + margin)
        y = _bounce(self.start[1] + frame_index * self.velocity[1], -margin, HEIGHT + margin)
        stray = self.sway * math.sin(phase)
        radius = self.radius * (1 + self.pulse * math.sin(phase + self.angle))
        return Pose(x + stray, y - stray, radius, self.angle + frame_index * self.spin)


@dataclass(frozen=True, slots=True)
class Pole:
    """A post in front of everything and has no category: columns ``left`` to ``right``."""

    left: int
    right: int


@dataclass(frozen=True, slots=True)
class Scene:
    """One video: its objects from back to front, and a post in front of them or none."""

    video_id: int
    seed: int
    """What background, light and noise are drawn from."""
    length: int
    bodies: tuple[Body, ...]
    pole: Pole | None

    def visible(self, frame_index: int) -> list[Pixels]:
        """The pixels ``(HEIGHT, WIDTH)`` of each object that nothing covers."""
        covered = np.zeros((HEIGHT, WIDTH), np.bool_)
        if self.pole:
            covered[:, self.pole.left : self.pole.right] = True
        masks = []
        for body in reversed(self.bodies):
            mask = filled(body.name.split()[1], body.pose(frame_index), HEIGHT, WIDTH)
            masks.append(mask & ~covered)
            covered |= mask
        return masks[::-1]


def filled(form: str, pose: Pose, height: int, width: int) -> Pixels:
    """The pixels of a form as if nothing covered it."""
    mask = np.zeros((height, width), np.bool_)
    reach = pose.radius * 1.2 + 1
    top, bottom = max(0, int(pose.y - reach)), min(height, int(pose.y + reach) + 1)
    left, right = max(0, int(pose.x - reach)), min(width, int(pose.x + reach) + 1)
    if top >= bottom or left >= right:
        return mask
    y = (np.arange(top, bottom, dtype=np.int64) * UNIT)[:, None]
    x = (np.arange(left, right, dtype=np.int64) * UNIT)[None, :]
    if form in ("circle", "ring"):
        squared = (x - round(UNIT * pose.x)) ** 2 + (y - round(UNIT * pose.y)) ** 2
        inside = squared <= round(UNIT * pose.radius) ** 2
        if form == "ring":
            inside &= squared > round(UNIT * pose.radius * 0.52) ** 2
    else:
        inside = _inside(_vertices(form, pose), x, y)
    mask[top:bottom, left:right] = inside
    return mask


def _vertices(form: str, pose: Pose) -> list[tuple[int, int]]:
    """The outline of a form in 1/256 pixel."""
    cosine, sine = math.cos(pose.angle), math.sin(pose.angle)
    scale = UNIT * pose.radius
    return [
        (
            round(UNIT * pose.x + scale * (cosine * x - sine * y)),
            round(UNIT * pose.y + scale * (sine * x + cosine * y)),
        )
        for x, y in OUTLINES[form]
    ]


def _inside(vertices: list[tuple[int, int]], x: NDArray[np.int64], y: NDArray[np.int64]) -> Pixels:
    """Even-odd rule in integers: inside is where a ray to the right crosses the outline an odd number of times."""
    inside = np.zeros((y.shape[0], x.shape[1]), np.bool_)
    for (x0, y0), (x1, y1) in zip(vertices, vertices[1:] + vertices[:1], strict=True):
        crosses = (y0 > y) != (y1 > y)
        # x < x0 + (y - y0) * (x1 - x0) / (y1 - y0), without the division
        side = (x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)
        inside ^= crosses & (side < 0 if y1 > y0 else side > 0)
    return inside


def _around(radii: tuple[float, ...], corners: int) -> tuple[tuple[float, float], ...]:
    angles = [2 * math.pi * i / corners - math.pi / 2 for i in range(corners)]
    return tuple(
        (radii[i % len(radii)] * math.cos(a), radii[i % len(radii)] * math.sin(a)) for i, a in enumerate(angles)
    )


_ARM, _END = 0.34, 1.0
OUTLINES = {
    "square": _around((1.05,), 4),
    "triangle": _around((1.15,), 3),
    "star": _around((1.15, 0.5), 10),
    "cross": (
        *((_ARM, -_END), (_ARM, -_ARM), (_END, -_ARM), (_END, _ARM), (_ARM, _ARM), (_ARM, _END)),
        *((-_ARM, _END), (-_ARM, _ARM), (-_END, _ARM), (-_END, -_ARM), (-_ARM, -_ARM), (-_ARM, -_END)),
    ),
}
"""Corners of the straight-edged forms, in radii."""


def scenes(split: str, seed: str = SEED) -> Iterator[Scene]:
    """The videos of a split; ids from 1. The train split has no object of a novel category.

    With another ``seed`` they are other videos of the same kind, which are in no split.
    """
    names = [name for name in NAMES if split != "train" or name not in NOVEL]
    weights = _long_tail(names, seed)
    for video_id in range(1, VIDEOS[split] + 1):
        rng = random.Random(f"{seed}/{split}/{video_id}")
        length = 8 + int(5 * rng.random())
        bodies = [names[video_id % len(names)]]  # one object cycles through the categories, so that each of them occurs
        for _ in range(1 + int(4 * rng.random())):
            bodies.append(_look_alike(rng, bodies, names) if rng.random() < 0.35 else _pick(rng, names, weights))
        order = sorted(bodies, key=lambda _: rng.random())
        left = int(20 + (WIDTH - 60) * rng.random())
        pole = Pole(left, left + 8 + int(16 * rng.random())) if rng.random() < 0.35 else None
        surroundings = int(rng.random() * 2**32)
        yield Scene(video_id, surroundings, length, tuple(_body(rng, name) for name in order), pole)


def _long_tail(names: list[str], seed: str) -> list[float]:
    """How often each category is drawn: a few often, most of them seldom."""
    rng = random.Random(f"{seed}/frequency")
    rank = {name: i for i, name in enumerate(sorted(NAMES, key=lambda _: rng.random()))}
    return [1 / (rank[name] + 2) for name in names]


def _pick(rng: random.Random, names: list[str], weights: list[float]) -> str:
    threshold = rng.random() * sum(weights)
    for name, weight in zip(names, weights, strict=True):
        threshold -= weight
        if threshold < 0:
            return name
    return names[-1]


def _look_alike(rng: random.Random, bodies: list[str], names: list[str]) -> str:
    """Another object like one that is there: the same category, or one that shares its look or its form."""
    look, form = bodies[int(len(bodies) * rng.random())].split()
    if rng.random() < 0.5:
        return f"{look} {form}"
    alike = [name for name in names if name.startswith(f"{look} ") or name.endswith(f" {form}")]
    return alike[int(len(alike) * rng.random())]


def _body(rng: random.Random, name: str) -> Body:
    def between(low: float, high: float) -> float:
        return low + (high - low) * rng.random()

    speed, heading = between(2, 13), between(0, 2 * math.pi)
    return Body(
        name=name,
        seed=int(rng.random() * 2**32),
        radius=between(14, 36),
        start=(between(10, WIDTH - 10), between(10, HEIGHT - 10)),
        velocity=(speed * math.cos(heading), 0.8 * speed * math.sin(heading)),
        sway=between(0, 10),
        pulse=between(0, 0.3),
        period=between(8, 24),
        angle=between(0, 2 * math.pi),
        spin=between(-0.25, 0.25),
    )


def _bounce(position: float, low: float, high: float) -> float:
    """Reflect a position into ``[low, high]``."""
    span = high - low
    offset = (position - low) % (2 * span)
    return low + min(offset, 2 * span - offset)
