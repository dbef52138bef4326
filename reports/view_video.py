"""What `harness view` shows of one video: states of every object per frame, outlines, pictures, and exports of them."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from pycocotools import mask as coco

from harness.errors import UserError
from harness.formats.youtube_vis import TruthTrack
from harness.masks import Rle
from harness.reports.outlines import OUTLINE_UNIT, outline, rough_outline
from harness.reports.overlay import colour
from harness.run_folder.store import PredictionStore
from harness.scoring.analysis import HIT
from harness.types import Track, Video

IOU = 0.5
"""A track with at least this IoU in a frame is on the object there."""
PICTURE_WIDTH = 960
"""Width of pictures in pixels; smaller ones stay unchanged."""
HIT_STATE, WRONG_NAME, SWITCHED, MISSED_STATE, ABSENT_STATE = "h", "w", "s", "m", "-"
"""The states of an object in a frame: found by its track, in another category only, by another track of it, by
none, and not annotated."""
DOWNLOAD_FORMATS = {"mp4": "video/mp4", "gif": "image/gif", "png": "image/png", "pdf": "application/pdf"}
_WIDEST = 3840
"""Pixels across of an MP4: browsers and players refuse wider ones."""
_STRIP = 6
"""Frames in a strip of pictures."""

_Masks = Sequence[Rle | None]


@dataclass(frozen=True)
class AssignedTrack:
    """A track with its row, its kind (hit or error) and the id of its object."""

    row: int
    track: Track
    kind: str
    truth_id: int | None


def states(truth: TruthTrack, tracks: Sequence[AssignedTrack], frames: int) -> tuple[str, list[int | None]]:
    """The state of an object in every frame, and the row of the track that gives it.

    The object's own track is the one that hits it, else the one of its category that is on it in most frames.
    """
    masks = truth.masks
    at = [f for f in range(min(frames, len(masks))) if masks[f] is not None and coco.area(_entry(masks[f]))]
    on = np.zeros((len(tracks), frames))
    for f in at:
        here = [i for i, one in enumerate(tracks) if f < len(one.track.masks) and one.track.masks[f] is not None]
        if here:
            entries = [_entry(tracks[i].track.masks[f]) for i in here]
            on[here, f] = coco.iou(entries, [_entry(masks[f])], [0])[:, 0]
    overlapping = on >= IOU
    named = np.array([one.track.category_id == truth.category_id for one in tracks], np.bool_)
    own = _own_track(truth, tracks, overlapping, named)
    found, rows = [ABSENT_STATE] * frames, [None] * frames
    for f in at:
        candidates = np.flatnonzero(overlapping[:, f])
        right = candidates[named[candidates]]
        if own is not None and own in right:
            found[f], chosen = HIT_STATE, own
        elif len(right):
            found[f], chosen = SWITCHED, int(right[0])
        elif len(candidates):
            found[f], chosen = WRONG_NAME, int(candidates[0])
        else:
            found[f] = MISSED_STATE
            continue
        rows[f] = tracks[chosen].row  # type: ignore[call-overload]
    return "".join(found), rows  # type: ignore[return-value]


def _own_track(truth: TruthTrack, tracks: Sequence[AssignedTrack], overlapping: Any, named: Any) -> int | None:
    for i, one in enumerate(tracks):
        if one.kind == HIT and one.truth_id == truth.id:
            return i
    counts = np.where(named, overlapping.sum(1), 0) if len(tracks) else np.zeros(0)
    return int(np.argmax(counts)) if len(counts) and counts.max() > 0 else None


def _entry(mask: Rle | None) -> dict[str, Any]:
    assert mask is not None
    return {"size": list(mask.size), "counts": mask.counts}


def assigned_tracks(store: PredictionStore, video_id: int, listed: Sequence[dict[str, Any]]) -> list[AssignedTrack]:
    """The tracks of a video that an index ``listed``, in its order."""
    tracks = store.read_video(video_id)
    return [AssignedTrack(one["row"], tracks[one["row"]], one["kind"], one["object"]) for one in listed]


def size_of(video: Video) -> tuple[int, int]:
    """Width and height of the pictures of a video."""
    width = min(video.width, PICTURE_WIDTH)
    return width, max(1, round(video.height * width / video.width))


def outlines(masks: Mapping[str, _Masks], frame: int, size: tuple[int, int]) -> dict[str, str]:
    """Paths of masks in a frame by key, as `rough_outline` gives them; none for an empty mask."""
    found = {}
    for key, one in masks.items():
        mask = one[frame] if frame < len(one) else None
        path = "" if mask is None else rough_outline(mask, *size)
        if path:
            found[key] = path
    return found


def picture(video: Video, frame: int) -> bytes:
    """A frame as JPEG. Raises `UserError` if there is no such frame or it cannot be read."""
    data = io.BytesIO()
    _scaled(video, frame).save(data, "JPEG", quality=85)
    return data.getvalue()


def _scaled(video: Video, frame: int) -> Pillow.Image:
    if not 0 <= frame < len(video.frames):
        raise UserError(
            f"frame {frame}", f"is not in the video, which has {len(video.frames)}", "name one of its frames"
        )
    found = Pillow.fromarray(video.frames[frame])
    size = size_of(video)
    return found if found.size == size else found.resize(size, Pillow.Resampling.BOX)


@dataclass(frozen=True)
class Drawn:
    """A mask to draw in a pane: colour number, name, and whether it is a hit (a full line) or not (a dashed one)."""

    masks: _Masks
    number: int
    text: str
    is_hit: bool


def export_video(
    video: Video, panes: Sequence[tuple[str, Sequence[Drawn]]], frames: Sequence[int], kind: str, rate: float
) -> bytes:
    """The panes side by side (a strip: below each other) over ``frames``, in one of `DOWNLOAD_FORMATS`.

    Raises `UserError` for an unknown format and frames that do not exist; frames that cannot be read are grey.
    """
    if kind not in DOWNLOAD_FORMATS:
        raise UserError(f"format {kind}", "is unknown", f"name one of {', '.join(DOWNLOAD_FORMATS)}")
    if not frames:
        raise UserError("frames", "names none", "name at least one frame")
    if kind in ("png", "pdf"):
        chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, _STRIP).round().astype(int))]
        return _sheet(video, panes, chosen, kind)
    pictures = (_side_by_side(video, panes, frame) for frame in frames)
    if kind == "gif":
        first, *others = [one.quantize(128) for one in pictures]
        data = io.BytesIO()
        first.save(data, "GIF", save_all=True, append_images=others, duration=round(1000 / rate), loop=0)
        return data.getvalue()
    from harness.video_file import write_video

    with tempfile.TemporaryDirectory(prefix="harness-view-") as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, (np.asarray(_narrowed(one)) for one in pictures), rate)
        return path.read_bytes()


def _narrowed(picture: Pillow.Image) -> Pillow.Image:
    if picture.width <= _WIDEST:
        return picture
    return picture.resize((_WIDEST, max(2, round(picture.height * _WIDEST / picture.width))), Pillow.Resampling.BOX)


def _side_by_side(video: Video, panes: Sequence[tuple[str, Sequence[Drawn]]], frame: int) -> Pillow.Image:
    pictures = [_with_title(title, one) for title, one in zip([t for t, _ in panes], _panes(video, panes, frame),
                strict=True)]  # fmt: skip
    width, height = sum(p.width for p in pictures) + 4 * (len(pictures) - 1), pictures[0].height
    sheet = Pillow.new("RGB", (width, height), "white")
    x = 0
    for one in pictures:
        sheet.paste(one, (x, 0))
        x += one.width + 4
    return sheet


def _with_title(title: str, picture: Pillow.Image) -> Pillow.Image:
    out = Pillow.new("RGB", (picture.width, picture.height + 24), "white")
    out.paste(picture, (0, 24))
    ImageDraw.Draw(out).text((4, 3), title, "black", ImageFont.load_default(15))
    return out


def _sheet(video: Video, panes: Sequence[tuple[str, Sequence[Drawn]]], frames: Sequence[int], kind: str) -> bytes:
    """A row per pane, a column per frame: PNG, or PDF by matplotlib with text as text."""
    columns = [list(_panes(video, panes, frame)) for frame in frames]
    width, height = columns[0][0].size
    data = io.BytesIO()
    if kind == "png":
        left = 110
        sheet = Pillow.new("RGB", (left + len(frames) * (width + 4), len(panes) * (height + 4)), "white")
        pen = ImageDraw.Draw(sheet)
        for x, column in enumerate(columns):
            for y, one in enumerate(column):
                sheet.paste(one, (left + x * (width + 4), y * (height + 4)))
        for y, (title, _) in enumerate(panes):
            pen.text((6, y * (height + 4) + height // 2), title[:14], "black", ImageFont.load_default(15))
        sheet.save(data, "PNG")
        return data.getvalue()
    from matplotlib.figure import Figure

    each = 7.0 / len(frames)
    figure = Figure(figsize=(7.0, each * height / width * len(panes)))
    axes = figure.subplots(len(panes), len(frames), squeeze=False)
    for x, column in enumerate(columns):
        for y, one in enumerate(column):
            axes[y][x].imshow(np.asarray(one))
            axes[y][x].set_xticks([])
            axes[y][x].set_yticks([])
            if x == 0:
                axes[y][x].set_ylabel(panes[y][0], fontsize=7)
    figure.subplots_adjust(0.03, 0.01, 0.999, 0.99, 0.02, 0.04)
    figure.savefig(data, format="pdf", metadata={"CreationDate": None})
    return data.getvalue()


def _panes(video: Video, panes: Sequence[tuple[str, Sequence[Drawn]]], frame: int) -> Iterator[Pillow.Image]:
    try:
        plain = _scaled(video, frame)
    except UserError:
        if not 0 <= frame < len(video.frames):
            raise
        plain = Pillow.new("RGB", size_of(video), (128, 128, 128))
    for _, drawn in panes:
        yield _drawn_on(plain.copy(), drawn, frame)


def _drawn_on(picture: Pillow.Image, drawn: Sequence[Drawn], frame: int) -> Pillow.Image:
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for one in drawn:
        mask = one.masks[frame] if frame < len(one.masks) else None
        for line in _lines("" if mask is None else outline(mask, *picture.size)):
            tint = colour(one.number)
            if one.is_hit:
                pen.line([*line, line[0]], tint, 3)
            else:
                for a, b in _dashes([*line, line[0]]):
                    pen.line([a, b], tint, 3)
            pen.text((line[0][0] + 3, max(0.0, line[0][1] - 15)), one.text, tint, font, stroke_width=2,
                     stroke_fill="black")  # fmt: skip
    return picture


def _lines(path: str) -> list[list[tuple[float, float]]]:
    """The closed lines of a path from `outline`, in pixels."""
    found = []
    for part in path.split("M")[1:]:
        head, _, moves = part.rstrip("z").partition("l")
        x, y = (int(v) for v in head.split())
        line = [(x / OUTLINE_UNIT, y / OUTLINE_UNIT)]
        numbers = [int(v) for v in moves.split()]
        for dx, dy in zip(numbers[::2], numbers[1::2], strict=True):
            x, y = x + dx, y + dy
            line.append((x / OUTLINE_UNIT, y / OUTLINE_UNIT))
        found.append(line)
    return found


def _dashes(line: Sequence[tuple[float, float]], on: float = 7.0, off: float = 5.0) -> Iterator[Any]:
    """Pieces of a line, each a pair of points."""
    travelled = 0.0
    for (x0, y0), (x1, y1) in pairwise(line):
        length = float(np.hypot(x1 - x0, y1 - y0))
        at = 0.0
        while at < length:
            place = travelled % (on + off)
            step = min((on if place < on else on + off) - place, length - at) or 1e-3
            if place < on:
                a, b = at / length, (at + step) / length
                yield (x0 + a * (x1 - x0), y0 + a * (y1 - y0)), (x0 + b * (x1 - x0), y0 + b * (y1 - y0))
            at, travelled = at + step, travelled + step
