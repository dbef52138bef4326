"""Folders of PNG masks in which a pixel's value is the number of its object: DAVIS, YouTube-VOS, MOSE and similar.

{folder}/{video}/{frame}.png           meta.json next to the folder or in it: names of categories (YouTube-VOS)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from harness.convert.tracks import (
    CategoryIds,
    ConvertedVideo,
    ObjectTrack,
    TrackSet,
    decoded,
    encoded,
    frame_paths,
    json_text,
    read_document,
)
from harness.errors import UserError
from harness.frame_folder import frame_names
from harness.image_files import opened_image
from harness.warnings import Warnings

VOID = 255
"""Value of pixels that are neither object nor background, in masks with several objects."""
UNNAMED = "object"
"""The category of objects without a name."""
_MOST = 254


def read_palette(folder: Path, frames: Path | None = None, names: Path | None = None) -> TrackSet:
    """The tracks of a folder of masks; every folder below it that holds PNG files is a video.

    ``names`` is a file in the form of YouTube-VOS's ``meta.json``; by default the one next to the folder or in it.
    Frames are those that have a mask; with ``frames`` their names are those below that folder. Raises `UserError` for
    masks of other modes or sizes, and where there are none.
    """
    named = _names(folder, names)
    categories, warnings = CategoryIds(), Warnings()
    videos: list[ConvertedVideo] = []
    for place in _video_folders(folder):
        name = place.relative_to(folder).as_posix() if place != folder else folder.name
        video = _read_video(place, name, len(videos) + 1, named.get(name, {}), categories, warnings)
        if frames is not None:
            video.file_names = _with_frames(video, frames)
        videos.append(video)
    if not videos:
        raise UserError(str(folder), "holds no PNG masks", "name the folder of the folders of videos (Annotations)")
    return TrackSet(videos, categories.by_id(), warnings)


def _video_folders(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise UserError(str(folder), "is not a folder", "name the folder of masks (Annotations)")
    for place in sorted([folder, *(p for p in folder.rglob("*") if p.is_dir())]):
        if any(p.suffix.lower() == ".png" and not p.name.startswith(".") for p in place.iterdir()):
            yield place


def _read_video(
    place: Path, name: str, number: int, named: dict[int, str], categories: CategoryIds, warnings: Warnings
) -> ConvertedVideo:
    files = frame_names(place)
    size: tuple[int, int] | None = None
    found: dict[int, dict[int, Any]] = {}
    is_binary = True
    for index, file in enumerate(files):
        values = _values(place / file)
        if size is None:
            size = (int(values.shape[0]), int(values.shape[1]))
        if values.shape != size:
            what = f"is {values.shape[0]}x{values.shape[1]}, the first mask is {size[0]}x{size[1]}"
            raise UserError(str(place / file), what, "give masks of one size")
        present = [int(v) for v in np.unique(values) if v]
        is_binary = is_binary and set(present) <= {VOID}
        for value in present:
            found.setdefault(value, {})[index] = encoded(values == value)
    assert size is not None
    if VOID in found and not is_binary:
        warnings.add(f"pixels of value {VOID} (void) are left out", f"{place}", len(found.pop(VOID)))
    video = ConvertedVideo(number, name, *size, tuple(f"{name}/{Path(f).with_suffix('.jpg').name}" for f in files))
    for value in sorted(found):
        category = categories.of(named.get(value, UNNAMED))
        masks = [found[value].get(index) for index in range(len(files))]
        video.tracks.append(ObjectTrack(1 if is_binary else value, category, masks))
    return video


def _values(file: Path) -> NDArray[Any]:
    """The numbers of objects, ``(height, width)``."""
    with opened_image(file, str(file), "write the mask again") as image:
        if image.mode not in ("P", "L", "1", "I;16", "I"):
            what = f"has {image.mode} pixels, not numbers of objects"
            raise UserError(str(file), what, "write masks as palette (P) or grey (L) PNG")
        values = np.asarray(image)
    return values.astype(np.uint8) * VOID if image.mode == "1" else values


def _names(folder: Path, names: Path | None) -> dict[str, dict[int, str]]:
    """Categories by video and number of object, of a ``meta.json``."""
    file = names or next((p for p in (folder / "meta.json", folder.parent / "meta.json") if p.is_file()), None)
    if file is None:
        return {}
    document = read_document(file)
    try:
        return {
            video: {
                int(number): str(one["category"]) for number, one in content["objects"].items() if "category" in one
            }
            for video, content in document["videos"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        hint = 'write {"videos": {"NAME": {"objects": {"1": {"category": "cat"}}}}}'
        raise UserError(str(file), "does not name the objects of videos", hint) from error


def _with_frames(video: ConvertedVideo, frames: Path) -> tuple[str, ...]:
    """The names of the frames that have the stems of the masks."""
    by_stem = {Path(name).stem: name for name in frame_paths(frames, video.name)}
    stems = [Path(name).stem for name in video.file_names]
    missing = [stem for stem in stems if stem not in by_stem]
    if missing:
        what = f"{len(missing)} of {len(stems)} masks have no frame below {frames}, first: {missing[0]}"
        raise UserError(f"video {video.name}", what, "name the folder of its frames with --frames")
    return tuple(by_stem[stem] for stem in stems)


def write_palette(tracks: TrackSet, out: Path) -> list[str]:
    """Write palette masks and ``meta.json``; return warnings. Where tracks overlap, the one with the higher score is
    on top, and of equal ones the first.

    Raises `UserError` for a video of more than 254 tracks.
    """
    palette, hidden, meta = _palette(), 0, {}
    for video in tracks.videos:
        if len(video.tracks) > _MOST:
            what = f"has {len(video.tracks)} tracks; a palette mask holds at most {_MOST}"
            raise UserError(f"video {video.name}", what, "keep those with high scores, or choose another form")
        place = out / video.name
        place.mkdir(parents=True, exist_ok=True)
        order = sorted(range(len(video.tracks)), key=lambda i: (video.tracks[i].score or 0, -i))
        for index, name in enumerate(video.file_names):
            values = np.zeros((video.height, video.width), np.uint8)
            for i in order:
                mask = video.tracks[i].masks[index] if index < len(video.tracks[i].masks) else None
                if mask is not None:
                    seen = decoded(mask)
                    hidden += int(bool((values[seen] != 0).any()))
                    values[seen] = i + 1
            image = Pillow.fromarray(values, "P")
            image.putpalette(palette)
            image.save(place / f"{Path(name).stem}.png")
        objects = {str(i + 1): {"category": tracks.categories[t.category_id]} for i, t in enumerate(video.tracks)}
        meta[video.name] = {"objects": objects}
    (out / "meta.json").write_bytes(json_text({"videos": meta}))
    return [f"{hidden} masks overlap others, which lose those pixels"] if hidden else []


def _palette() -> bytes:
    """DAVIS's colours: the bits of a number, spread over red, green and blue."""
    colours = np.zeros((256, 3), np.uint8)
    for number in range(256):
        rest = number
        for shift in range(7, -1, -1):
            for channel in range(3):
                colours[number, channel] |= ((rest >> channel) & 1) << shift
            rest >>= 3
    return colours.tobytes()
