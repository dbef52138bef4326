"""``harness predict``: your own categories in your own video."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.plain_text import escaped

if TYPE_CHECKING:
    pass


def predict(
    model: Annotated[str, typer.Option(help="Model.")],
    video: Annotated[Path, typer.Option(help="Video file, or folder of frames in order of their numbers.")],
    words: Annotated[str, typer.Option(help='The categories to find: "cat, skateboard, red umbrella".')],
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
    """Find, segment and track objects of a video by category names; write results.json and the video with masks.

    Example:

        harness predict --model clipvis --checkpoint clipvis.pth --video clip.mp4 --words "cat, skateboard" --out seen
    """
    from harness import api, plugins
    from harness.config import read_config
    from harness.engines.devices import default_device, refuse_missing_devices

    place = device or default_device()
    refuse_missing_devices([place])
    chosen = read_config(plugins.model(model).Config, config, set_ or [], model)
    found = api.predict(
        video, words, model=model, checkpoint=checkpoint, device=place, precision=precision, seed=seed, config=chosen
    )
    written = found.write(out, threshold, video.is_dir())
    if as_json:
        frames = len(found.video.frames)
        print(json.dumps({"video": str(video), "frames": frames, "tracks": len(found), **written}))
        return
    for track in found[:10]:
        frames = sum(m is not None for m in track.masks)
        print(f"{track.score:.3f}  {escaped(found.names[track.category_id])}  ({frames} of {len(track.masks)} frames)")
    print(f"{written['results']}\n{written['overlay']}", file=sys.stderr)
