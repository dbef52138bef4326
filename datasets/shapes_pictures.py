"""How the videos of `shapes` look: backgrounds, colours and textures, light, blur and noise."""

from __future__ import annotations

import colorsys
import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from harness.datasets.shapes_scenes import COLOURS, HEIGHT, SEED, WIDTH, Pixels, Pose, Scene, filled
from harness.frames import Frames, Image

Canvas = NDArray[np.float32]
"""Light ``(height, width, 3)``, 0 to 1, RGB."""

HUES = {"red": 0.985, "orange": 0.07, "yellow": 0.15, "green": 0.34, "blue": 0.6, "purple": 0.78}
"""Hue of each colour, 0 to 1; similar colours can be confused."""
HUE_SPREAD = 0.022
PAN = 40
"""Pixels that the camera may travel over a background."""


@dataclass(frozen=True, slots=True)
class Pictures(Frames):
    """The frames of a scene, painted when they are read."""

    scene: Scene

    def __repr__(self) -> str:
        return f"Pictures({len(self)} frames of video {self.scene.video_id})"

    def __len__(self) -> int:
        return self.scene.length

    def __getitem__(self, frame_index: int, /) -> Image:
        scene = self.scene
        if not 0 <= frame_index < scene.length:
            raise IndexError(frame_index)
        wide, conditions = _setting(scene.seed)
        down, right = conditions.offset(frame_index, scene.length)
        canvas = wide[down : down + HEIGHT, right : right + WIDTH].copy()
        for body in scene.bodies:
            look, form = body.name.split()
            pose = body.pose(frame_index)
            paint(canvas, filled(form, pose, HEIGHT, WIDTH), look, pose, body.seed)
        if scene.pole:
            canvas[:, scene.pole.left : scene.pole.right] = conditions.pole
        return developed(canvas, conditions, frame_index)

    def digests(self, whole: bool) -> list[str]:
        """A single one, of what they are drawn from; with ``whole`` one of the pixels of each, painted here."""
        if whole:
            return [hashlib.sha256(self[index].tobytes()).hexdigest() for index in range(len(self))]
        scene = self.scene
        return [repr((SEED, scene.video_id, scene.seed, scene.length, [(b.name, b.seed) for b in scene.bodies]))]


@dataclass(frozen=True, slots=True)
class Conditions:
    """Recording conditions that all frames of a video share: the camera's path, light, blur and noise."""

    start: tuple[float, float]
    end: tuple[float, float]
    """Where the camera looks in the first and in the last frame, fractions of `PAN` (down, right)."""
    light: Canvas
    """How bright each pixel is lit, ``(height, width, 1)``."""
    flicker: float
    period: float
    blur: float
    """Standard deviation in pixels."""
    noise: float
    """Standard deviation of the noise of each pixel, 0 to 1."""
    seed: int
    pole: float

    def offset(self, frame_index: int, length: int) -> tuple[int, int]:
        """Corner of the frame on the wide background."""
        t = frame_index / max(1, length - 1)
        down, right = (PAN * (a + (b - a) * t) for a, b in zip(self.start, self.end, strict=True))
        return int(down), int(right)


def draw_conditions(random: np.random.Generator, height: int = HEIGHT, width: int = WIDTH) -> Conditions:
    """Draw what the frames of a video share."""
    return Conditions(
        start=(random.random(), random.random()),
        end=(random.random(), random.random()),
        light=_light(random, height, width),
        flicker=0.2 * random.random(),
        period=4 + 12 * random.random(),
        blur=0.3 + 1.0 * random.random(),
        noise=0.01 + 0.045 * random.random(),
        seed=int(random.integers(2**32)),
        pole=0.15 + 0.6 * random.random(),
    )


@lru_cache(maxsize=4)
def _setting(seed: int) -> tuple[Canvas, Conditions]:
    """A video's background, wider than a frame, and its conditions of recording."""
    random = np.random.default_rng(seed)
    return background(random, HEIGHT + PAN, WIDTH + PAN), draw_conditions(random)


def background(random: np.random.Generator, height: int, width: int) -> Canvas:
    """A muted picture of clouds, a gradient and scattered patches: nothing that a threshold could remove."""
    tints = 0.25 + 0.5 * random.random((2, 3), dtype=np.float32)
    tints = 0.6 * tints.mean(1, keepdims=True) + 0.4 * tints  # greyish
    blend = _clouds(random, height, width, int(random.integers(2, 9)))[..., None]
    canvas = tints[0] * blend + tints[1] * (1 - blend)
    canvas += 0.15 * (_clouds(random, height, width, int(random.integers(10, 40)))[..., None] - 0.5)
    for _ in range(int(random.integers(0, 7))):
        y, x = int(random.integers(height)), int(random.integers(width))
        h, w = (int(side) for side in random.integers(6, 60, 2))
        shade = 0.3 * (random.random() - 0.5) + 0.1 * (random.random(3, dtype=np.float32) - 0.5)
        canvas[y : y + h, x : x + w] += shade
    return np.asarray(canvas.clip(0, 1), np.float32)


def _clouds(random: np.random.Generator, height: int, width: int, cells: int) -> Canvas:
    """Smooth noise ``(height, width)``, 0 to 1, with about ``cells`` hills along a side."""
    from PIL import Image as Pillow

    coarse = Pillow.fromarray(random.random((cells + 1, cells + 1), dtype=np.float32))
    return np.asarray(coarse.resize((width, height), Pillow.Resampling.BICUBIC)).clip(0, 1)


def _light(random: np.random.Generator, height: int, width: int) -> Canvas:
    """A slope of light across the frame."""
    slope = 0.6 * (random.random(2) - 0.5)
    y, x = np.linspace(-0.5, 0.5, height)[:, None], np.linspace(-0.5, 0.5, width)[None, :]
    gain = (0.75 + 0.4 * random.random()) * (1 + slope[0] * y + slope[1] * x)
    return np.asarray(gain[..., None], np.float32)


def paint(canvas: Canvas, mask: Pixels, look: str, pose: Pose, seed: int) -> None:
    """Paint an object's pixels; its exact colours and its texture's scale follow from ``seed``."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return
    random = np.random.default_rng(seed)
    # the object's own coordinates, so that textures turn and grow with it
    right, down = (columns - pose.x) / pose.radius, (rows - pose.y) / pose.radius
    u = right * np.cos(pose.angle) + down * np.sin(pose.angle)
    v = down * np.cos(pose.angle) - right * np.sin(pose.angle)
    shade = (1 - 0.12 * u + 0.1 * v)[:, None]
    if look in COLOURS:
        colours = _colour(random, look)[None]
    else:
        bright, dark = _pair(random)
        colours = np.where(_texture(look, u, v, 2.2 + 1.2 * random.random())[:, None], bright, dark)
    canvas[rows, columns] = (colours * shade).clip(0, 1)


def _texture(look: str, u: NDArray[np.float64], v: NDArray[np.float64], rate: float) -> Pixels:
    """Where a texture is bright; ``rate`` periods to a radius."""
    if look == "striped":
        return np.asarray((u * rate) % 1 < 0.5)
    if look == "checkered":
        return np.asarray(((u * rate) % 1 < 0.5) ^ ((v * rate) % 1 < 0.5))
    return np.asarray(((u * rate) % 1 - 0.5) ** 2 + ((v * rate) % 1 - 0.5) ** 2 < 0.1)


def _colour(random: np.random.Generator, name: str) -> NDArray[np.float64]:
    hue = HUES[name] + HUE_SPREAD * (2 * random.random() - 1)
    return np.array(colorsys.hsv_to_rgb(hue % 1, 0.65 + 0.35 * random.random(), 0.55 + 0.45 * random.random()))


def _pair(random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A bright and a dark colour of any hues: a texture is recognised by its pattern."""
    hues, saturation = random.random(2), 0.7 * random.random(2)
    bright = np.array(colorsys.hsv_to_rgb(hues[0], saturation[0], 0.8 + 0.2 * random.random()))
    dark = np.array(colorsys.hsv_to_rgb(hues[1], saturation[1], 0.1 + 0.3 * random.random()))
    return bright, dark


def developed(canvas: Canvas, conditions: Conditions, frame_index: int) -> Image:
    """Light, blur and noise; to 8 bits."""
    from scipy.ndimage import gaussian_filter

    flicker = 1 + conditions.flicker * np.sin(2 * np.pi * frame_index / conditions.period)
    lit = gaussian_filter(canvas * (conditions.light * flicker), (conditions.blur, conditions.blur, 0), truncate=2.5)
    random = np.random.default_rng((conditions.seed, frame_index))
    lit += conditions.noise * random.standard_normal(lit.shape, dtype=np.float32)
    return np.asarray((lit * 255 + 0.5).clip(0, 255).astype(np.uint8))
