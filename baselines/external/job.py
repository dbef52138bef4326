"""A job: the input of a command (videos, frame files, vocabulary), and the tracks in its results."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from harness.arrays import Ints
from harness.atomic_write import write_json
from harness.errors import UnreadableFileError, UserError
from harness.formats.results import Block, ResultRecord, read_blocks
from harness.formats.segmentations import find_masks, mask_of
from harness.formats.youtube_vis import decode_records
from harness.frame_digests import digests_of
from harness.image_files import ImageFrames, inside
from harness.input_files import NOTE_BYTES, RECORD_BYTES, decode_json, read_file
from harness.masks import Rle
from harness.run_folder.store import tabulate
from harness.types import LoadContext, LoadedWeights, Track, Video, Vocabulary

JOB_FORMAT = "harness-job-1"
"""Version of the job file; it changes with its keys or their meaning."""

JOB_FILE, RESULTS_FILE, FRAMES_FOLDER, DONE_FILE, FACTS_FILE = (
    "job.json",
    "results.json",
    "frames",
    "done.json",
    "facts.json",
)


Count = Annotated[int, msgspec.Meta(ge=0)]


class Done(msgspec.Struct, frozen=True):
    """``done.json``, which is written last: the results of these videos are complete and checked.

    ``videos`` has the digests of the frames of each video.
    """

    videos: dict[int, list[str]]
    vocabulary: str


class WeightsFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a command has loaded its weights, see `harness.types.LoadedWeights`."""

    needed: Count
    loaded: Count
    unused: list[str] = []


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``facts.json``, which a command may write next to its results: facts for the run's record."""

    weights: WeightsFacts | None = None
    words: str = ""

    @property
    def loaded_weights(self) -> LoadedWeights | None:
        """In the form of models in this process."""
        weights = self.weights
        return None if weights is None else LoadedWeights(weights.needed, weights.loaded, tuple(weights.unused))


def read_facts(folder: Path) -> Facts:
    """The facts that a job's command has written, if any. Raises `UserError` for a malformed file."""
    try:
        return decode_json(read_file(folder / FACTS_FILE, NOTE_BYTES, is_text=True), Facts)
    except FileNotFoundError:
        return Facts()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        hint = (
            'write {"weights": {"needed": 10, "loaded": 10, "unused": []}, "words": "text"}, or do not write the file'
        )
        raise UserError(FACTS_FILE, f"cannot be read: {error}", hint) from error


def job_folder(scratch: Path, videos: Sequence[Video]) -> Path:
    """The folder of the job for these videos."""
    first, last = videos[0].id, videos[-1].id
    return scratch / (f"{first}" if len(videos) == 1 else f"{first}_to_{last}")


def write_job(folder: Path, videos: Sequence[Video], vocabulary: Vocabulary, context: LoadContext) -> list[Video]:
    """Write ``job.json`` into an empty folder; return the videos in it.

    These are all videos, or those before the first one with missing frames, which fails later by itself. Frames that
    are not files are written as PNG. Raises `UserError` if frames of the first video cannot be read.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    entries: list[dict[str, Any]] = []
    for video in videos:
        try:
            files = _frame_files(video, folder / FRAMES_FOLDER / str(video.id))
        except UserError:
            if not entries:
                raise
            break
        size = {"height": video.height, "width": video.width}
        entries.append({"id": video.id, "name": video.name, **size, "frames": files})
    categories = [{"id": c.id, "name": c.name, "synonyms": list(c.synonyms)} for c in vocabulary.categories]
    job = {
        "format": JOB_FORMAT,
        "videos": entries,
        "vocabulary": categories,
        "results": str((folder / RESULTS_FILE).resolve()),
        "checkpoint": None if context.checkpoint is None else str(context.checkpoint.resolve()),
        "device": context.device,
        "precision": context.precision,
        "seed": context.seed,
    }
    write_json(folder / JOB_FILE, job)
    return list(videos[: len(entries)])


def _frame_files(video: Video, folder: Path) -> list[str]:
    """Absolute paths of a video's frames; those of generated and decoded frames are written below ``folder``."""
    frames = video.frames
    if isinstance(frames, ImageFrames):
        paths = [inside(frames.root, name) for name in frames.file_names]
        for index, path in enumerate(paths):
            if not path.is_file():
                raise UserError(f"{path} (video {video.id}, frame {index})", "frame is missing", "extract it again")
        return [str(path) for path in paths]
    from PIL import Image as Pillow

    folder.mkdir(parents=True)
    files = []
    for index, image in enumerate(video.read()):
        path = folder / f"{index:05d}.png"
        Pillow.fromarray(image).save(path, compress_level=1)
        files.append(str(path.resolve()))
    return files


def read_tracks(folder: Path, videos: Sequence[Video], vocabulary: Vocabulary) -> dict[int, list[Track]]:
    """Read the results of a job: the tracks of ``videos`` in file order, checked as by a store.

    In a job that is marked done, tracks of other videos are skipped. Raises `UserError` for a file that is missing or
    not a results list, and for records of videos that are not in the job, of categories that are not in the vocabulary,
    with scores that are not finite, or with masks that do not match their video.
    """
    asked = {category.id for category in vocabulary.categories}
    tracks: dict[int, list[Track]] = {video.id: [] for video in videos}
    done = _read_done(folder)
    others = set(done.videos) - tracks.keys() if done else set()
    for block in read_blocks(folder / RESULTS_FILE):
        for row in range(len(block.spans)):
            where, span = f"{RESULTS_FILE}, record {block.first + row}", block.spans[row : row + 1]
            (record,) = decode_records(block.text.data, span, list[ResultRecord], where)
            if record.video_id in others:
                continue
            if record.video_id not in tracks:
                raise UserError(where, f"video {record.video_id} is not in the job", "use the ids of the job")
            if record.category_id not in asked:
                raise UserError(
                    where, f"category {record.category_id} is not in the vocabulary", "use the vocabulary's ids"
                )
            masks = _masks(block, span, where)
            tracks[record.video_id].append(Track(record.video_id, record.category_id, record.score, masks))
    for video in videos:
        tabulate(video, tracks[video.id])
    return tracks


def _masks(block: Block, span: Ints, where: str) -> tuple[Rle | None, ...]:
    """The masks of the one record at ``span (1, 4)``."""
    if not span[0, 3]:
        raise UserError(where, "has no segmentations", "write one mask or null per frame")
    found = find_masks(block.text, span[:, 2].copy(), span[:, 3].copy(), 0, [where])
    if len(found.other):
        what = "mask is not a run-length encoding"
        raise UserError(f"{where}, frame {found.other[0]}", what, 'write {"size": [h, w], "counts": "..."} or null')
    try:
        return tuple(None if mask < 0 else mask_of(found.table, mask) for mask in found.table.frame_mask.tolist())
    except (ValueError, TypeError, OverflowError) as error:  # of pycocotools and numpy, for uncompressed counts
        raise UserError(where, f"counts are not a run-length encoding ({error})", "write COCO's encoding") from error


def mark_done(folder: Path, videos: Sequence[Video], vocabulary: Vocabulary) -> None:
    """Mark a job as done and delete its frames."""
    shutil.rmtree(folder / FRAMES_FOLDER, ignore_errors=True)
    done = Done({v.id: frame_files(v) for v in videos}, vocabulary.digest)
    write_json(folder / DONE_FILE, msgspec.to_builtins(done, str_keys=True))


def frame_files(video: Video) -> list[str]:
    """The digests of the frames of a video: of all content if they are files."""
    digests = digests_of(video.frames, whole=isinstance(video.frames, ImageFrames))
    return list(digests.whole or digests.sampled)


def find_done(scratch: Path) -> dict[Path, Done]:
    """The finished jobs of an earlier session, by folder."""
    found = {path.parent: _read_done(path.parent) for path in sorted(scratch.glob(f"*/{DONE_FILE}"))}
    return {folder: done for folder, done in found.items() if done is not None}


def _read_done(folder: Path) -> Done | None:
    """The content of ``done.json``; ``None`` if it is missing or damaged: the job then counts as unfinished."""
    try:
        return decode_json(read_file(folder / DONE_FILE, RECORD_BYTES, is_text=True), Done)
    except (OSError, UnreadableFileError, msgspec.MsgspecError):
        return None
