"""FiftyOne samples, if FiftyOne is installed: one per frame, with the masks, labels and tracks of its objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.convert.tracks import TrackSet, box, decoded
from harness.errors import UserError


def add_samples(tracks: TrackSet, name: str, frames: Path) -> int:
    """Make a persistent FiftyOne dataset ``name``; return its number of samples.

    Masks of a file are the field ``ground_truth``, those with scores ``predictions``; ``index`` is the track. Raises
    `UserError` where FiftyOne is not installed, cannot open its database, or has a dataset of that name.
    """
    try:
        import fiftyone as fo
    except ImportError as error:
        hint = "pip install fiftyone"
        raise UserError("--to fiftyone", f"needs a package that is not installed ({error})", hint) from error
    try:
        exists = fo.dataset_exists(name)
    except Exception as error:  # FiftyOne's, MongoDB's, or from starting a server
        what = f"FiftyOne cannot open its database: {error}"
        raise UserError("--to fiftyone", what, "name a MongoDB in FIFTYONE_DATABASE_URI") from error
    if exists:
        raise UserError(f"FiftyOne dataset {name}", "already exists", "choose another --out")
    dataset, count = fo.Dataset(name, persistent=True), 0
    for video in tracks.videos:
        samples: list[Any] = []
        for index, file_name in enumerate(video.file_names):
            sample = fo.Sample(filepath=str((frames / file_name).absolute()))
            sample["video"], sample["frame_number"] = video.name, index + 1
            found: dict[str, list[Any]] = {}
            for track in video.tracks:
                mask = track.masks[index] if index < len(track.masks) else None
                if mask is None:
                    continue
                x, y, w, h = box(mask)
                inner = decoded(mask)[int(y) : int(y + h), int(x) : int(x + w)]
                relative = [x / video.width, y / video.height, w / video.width, h / video.height]
                score = {} if track.score is None else {"confidence": track.score}
                field = "ground_truth" if track.score is None else "predictions"
                label = tracks.categories[track.category_id]
                one = fo.Detection(label=label, bounding_box=relative, mask=inner, index=track.id, **score)
                found.setdefault(field, []).append(one)
            for field, detections in found.items():
                sample[field] = fo.Detections(detections=detections)
            samples.append(sample)
        dataset.add_samples(samples, progress=False)
        count += len(samples)
    return count
