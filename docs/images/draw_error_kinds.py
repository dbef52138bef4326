"""Draws the pictures of docs/error-analysis.md: ``python docs/images/draw_error_kinds.py`` writes them here."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import NamedTuple

FRAMES, WIDTH, HEIGHT, GAP = 5, 76, 52, 6
CAT, DOG, TRACK, SECOND = "#7fb3e6", "#f2b872", "#1a1a1a", "#b3261e"

Box = tuple[int, int, int, int]
"""Left, top, width, height."""
Place = Callable[[int], Box]


class Track(NamedTuple):
    """A predicted track: its label and a box or ``None`` per frame."""

    label: str
    boxes: list[Box | None]
    colour: str = TRACK


def cat(frame: int) -> Box:
    return 6 + 2 * frame, 20, 26, 22


def dog(frame: int) -> Box:
    return 46 - frame, 20, 22, 18


def around(thing: Place, frames: range, grow: int = 2) -> list[Box | None]:
    """A box around a cat or a dog in some frames."""
    out: list[Box | None] = []
    for f in range(FRAMES):
        x, y, w, h = thing(f)
        out.append((x - grow, y - grow, w + 2 * grow, h + 2 * grow) if f in frames else None)
    return out


ALL = range(FRAMES)
PART = [(x, y, 12, 22) for x, y, _, _ in map(cat, ALL)]
SWITCH = [a or b for a, b in zip(around(cat, range(2)), around(dog, range(2, 5)), strict=True)]
PICTURES: dict[str, tuple[str, list[Track]]] = {
    "classification": ("a dog where the cat is", [Track("dog", around(cat, ALL))]),
    "localisation": ("on the cat, by a poor mask", [Track("cat", list(PART))]),
    "identity-switch": ("from the cat to the dog", [Track("cat", SWITCH)]),
    "identity-fragments": (
        "one cat, two tracks",
        [Track("cat 0.9", around(cat, range(3))), Track("cat 0.8", around(cat, range(3, 5)), SECOND)],
    ),
    "temporal-extent": ("on the cat, in some frames", [Track("cat", around(cat, range(2)))]),
    "both": ("a dog, by a poor mask", [Track("dog", list(PART))]),
    "duplicate": (
        "twice the same cat",
        [Track("cat 0.9", around(cat, ALL)), Track("cat 0.5", around(cat, ALL, 5), SECOND)],
    ),
    "background": ("on nothing", [Track("cat", [(34, 2, 16, 14)] * FRAMES)]),
    "missed": ("nothing found", []),
}


def picture(caption: str, tracks: list[Track]) -> str:
    """A strip of frames as SVG: objects filled, tracks dashed."""
    total = FRAMES * WIDTH + (FRAMES - 1) * GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total + 8}" height="{HEIGHT + 26}" font-family="sans-serif">',
        f"<title>{escape(caption)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for f in ALL:
        left = 4 + f * (WIDTH + GAP)
        parts.append(f'<g transform="translate({left} 4)">')
        parts.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#f4f4f4" stroke="#c8c8c8"/>')
        for (x, y, w, h), colour in ((cat(f), CAT), (dog(f), DOG)):
            parts.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="6" fill="{colour}"/>')
        for track in tracks:
            box = track.boxes[f]
            if box is None:
                continue
            x, y, w, h = box
            style = f'fill="none" stroke="{track.colour}" stroke-width="1.6" stroke-dasharray="4 2"'
            parts.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" {style}/>')
            before = f and track.boxes[f - 1]
            if not before:
                at = y - 5 if track.colour == TRACK and y > 12 else y + h + 9
                parts.append(f'<text x="{x}" y="{at}" font-size="9" fill="{track.colour}">{escape(track.label)}</text>')
        parts.append("</g>")
    text = f"{caption} (blue: a cat, orange: a dog, dashed: the track)"
    parts.append(f'<text x="4" y="{HEIGHT + 19}" font-size="11" fill="#333333">{escape(text)}</text></svg>')
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    for name, (caption, tracks) in PICTURES.items():
        (Path(__file__).parent / f"error-{name}.svg").write_text(picture(caption, tracks))
