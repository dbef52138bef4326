"""``harness predict``: your own words on your own video."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.types import Category, Dataset, Track, Video


def predict(
    model: Annotated[str, typer.Option(help="Model.")],
    video: Annotated[Path, typer.Option(help="Video file, or folder of frames in order of their numbers.")],
    words: Annotated[str, typer.Option(help='What to look for: "cat, skateboard, red umbrella".')],
    out: Annotated[Path, typer.Option(help="Folder for results.json and the overlay.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Weights of the model.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda; default: cuda where there is a GPU.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    threshold: Annotated[float, typer.Option(help="Tracks below this score are not drawn.")] = 0.2,
    config: Annotated[Path | None, typer.Option(help="YAML file with the model's configuration.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One configuration key.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find, track and name objects of a video by words; writes results.json and the video with masks drawn on it.

    Example:

        harness predict --model clipvis --checkpoint clipvis.pth --video clip.mp4 --words "cat, skateboard" --out seen
    """
    from harness import plugins
    from harness.config import read_config
    from harness.engines.devices import default_device, refuse_missing
    from harness.engines.model_spec import loaded
    from harness.plugin_code import asked
    from harness.run_folder.store import tabulate, tracks_of
    from harness.types import LoadContext
    from harness.video_file import open_video

    if precision not in ("fp32", "bf16", "fp16"):
        raise UserError("--precision", f'"{precision}" is unknown', "one of fp32, bf16, fp16")
    place = device or default_device()
    refuse_missing([place])
    categories = categories_of(words)
    opened, rate = open_video(video)
    plugin = plugins.model(model)
    chosen = read_config(plugin.Config, config, set_ or [], model)
    dataset = dataset_of(opened, categories)
    ready = loaded(plugin, chosen, LoadContext(dataset, place, precision, checkpoint, seed))
    with asked(f"model {model}", "its predict fails"):
        table = tabulate(opened, list(ready.predict(opened, dataset.vocabulary)), dataset.vocabulary)
    found = list(tracks_of(table))
    written = write_prediction(out, opened, categories, found, threshold, rate, video.is_dir())
    if as_json:
        print(json.dumps({"video": str(video), "frames": len(opened.frames), "tracks": len(found), **written}))
        return
    for track in found[:10]:
        name = next(c.name for c in categories if c.id == track.category_id)
        frames = sum(m is not None for m in track.masks)
        print(f"{track.score:.3f}  {name}  ({frames} of {len(track.masks)} frames)")
    print(f"{written['results']}\n{written['overlay']}", file=sys.stderr)


def categories_of(words: str) -> tuple[Category, ...]:
    """The categories of a comma-separated list; raises `UserError` for an empty list and for repeated words."""
    from harness.types import Category

    names = [" ".join(word.split()) for word in words.split(",") if word.strip()]
    if not names:
        raise UserError("--words", "names nothing", 'for example --words "cat, skateboard"')
    repeated = next((n for i, n in enumerate(names) if n.lower() in (m.lower() for m in names[:i])), None)
    if repeated is not None:
        raise UserError("--words", f'"{repeated}" stands twice', "name each category once")
    return tuple(Category(i, name) for i, name in enumerate(names, 1))


def dataset_of(video: Video, categories: tuple[Category, ...]) -> Dataset:
    """A dataset of this video alone, without truth."""
    from harness.formats.youtube_vis import annotations_from_document
    from harness.types import Dataset

    listed = {"id": video.id, "height": video.height, "width": video.width, "length": len(video.frames)}
    named = [{"id": c.id, "name": c.name} for c in categories]
    document = {"videos": [listed], "categories": named, "annotations": None}
    return Dataset("own", "words", categories, (video,), "ytvis", annotations_from_document(document, video.name))


def write_prediction(
    out: Path,
    video: Video,
    categories: tuple[Category, ...],
    tracks: list[Track],
    threshold: float,
    rate: float,
    as_frames: bool,
) -> dict[str, Any]:
    """Write ``results.json`` and the overlay (an MP4, or JPEGs for a folder of frames); return their paths."""
    from PIL import Image as Pillow

    from harness.atomic_write import write_json
    from harness.reports.overlay import overlay
    from harness.video_file import write_video

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(str(out), f"cannot be made: {error.strerror}", "name another folder") from error
    names = {c.id: c.name for c in categories}
    results = [
        {
            "video_id": t.video_id,
            "category_id": t.category_id,
            "category": names[t.category_id],
            "score": t.score,
            "segmentations": [m and {"size": list(m.size), "counts": m.counts.decode()} for m in t.masks],
        }
        for t in tracks
    ]
    write_json(out / "results.json", results)
    pictures = overlay(video, [t for t in tracks if t.score >= threshold], names)
    if not as_frames:
        write_video(out / "overlay.mp4", pictures, rate)
        return {"results": str(out / "results.json"), "overlay": str(out / "overlay.mp4")}
    folder = out / "overlay"
    folder.mkdir(exist_ok=True)
    for index, picture in enumerate(pictures):
        Pillow.fromarray(picture).save(folder / f"{index:05d}.jpg", quality=92)
    return {"results": str(out / "results.json"), "overlay": str(folder)}
