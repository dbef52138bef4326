"""``harness convert``: masks and tracks from and to the forms of other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DATA_ROOT, DataRoot
from harness.errors import UserError
from harness.standard_output import tell

if TYPE_CHECKING:
    from harness.convert.tracks import TrackSet


_WITHOUT_PREDICTIONS = "video of the run without predictions, left out"


class SourceFormat(StrEnum):
    """The input formats."""

    VIS = "vis"
    RUN = "run"
    BURST = "burst"
    MASKS = "masks"
    CVAT = "cvat"
    LABEL_STUDIO = "label-studio"
    COCO = "coco"


class TargetFormat(StrEnum):
    """The output formats."""

    VIS = "vis"
    RESULTS = "results"
    BURST = "burst"
    COCO = "coco"
    MASKS = "masks"
    MOTS = "mots"
    FIFTYONE = "fiftyone"


def convert(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="File or folder to convert.")],
    from_: Annotated[
        SourceFormat,
        typer.Option(
            "--from",
            help="vis: annotations or results in YouTube-VIS form; run: a run folder's predictions; burst: annotations"
            " or predictions in BURST's own form; masks: folders of palette PNG; cvat: CVAT for video; label-studio:"
            " its JSON; coco: COCO per frame with track ids.",
        ),
    ],
    out: Annotated[
        str, typer.Option(help="File to write (vis, results, burst, coco), folder (masks, mots), or name (fiftyone).")
    ],
    to: Annotated[
        TargetFormat,
        typer.Option(
            help="vis: annotations; results: a results list; burst: predictions in BURST's own form; coco; masks; mots:"
            " TrackEval's text; fiftyone."
        ),
    ] = TargetFormat.VIS,
    frames: Annotated[
        Path | None, typer.Option(help="Folder of the frames, where the input does not name them.")
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="With --from masks: the categories, in the form of YouTube-VOS's meta.json.")
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="Annotation file of results; of BURST predictions, whose categories then have its numbers; of a run,"
            " where it is not found."
        ),
    ] = None,
    data_root: DataRoot = DATA_ROOT,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if anything is left out.")] = False,
) -> None:
    """Convert masks and tracks; data that is left out or assumed is counted.

    docs/converting.md describes every form.

    Examples:

        harness convert Annotations --from masks --frames JPEGImages --out made.json

        harness convert instances.json --from vis --to coco --out frames.json

        harness convert results.json --from vis --annotations instances.json --to mots --out tracks

        harness convert runs/oracle-burst-val-1a2b3c4d --from run --data-root DIR --to burst --out predictions.json
    """
    from harness.convert.burst import burst_document
    from harness.convert.coco_frames import coco_document
    from harness.convert.tracks import json_text, results_list, youtube_vis_document

    tracks = _read(source, from_, frames, names, annotations, data_root)
    for warning in tracks.warnings.record():
        line = f"{warning['kind']}: {warning['count']}, first: {warning['first']}"
        if strict:
            raise UserError(warning["first"], warning["kind"], "correct it, or leave out --strict")
        tell(f"warning: {line}")
    count = sum(len(video.tracks) for video in tracks.videos)
    remarks: list[str] = []
    if to is TargetFormat.FIFTYONE:
        from harness.convert.fiftyone_samples import add_samples

        if frames is None:
            raise UserError("--to fiftyone", "needs --frames", "name the folder to which file names are relative")
        add_samples(tracks, out, frames)
    elif to in (TargetFormat.MASKS, TargetFormat.MOTS):
        remarks = _write_folder(tracks, to, Path(out))
    else:
        from harness.atomic_write import write_atomically

        documents = {
            TargetFormat.VIS: youtube_vis_document,
            TargetFormat.COCO: coco_document,
            TargetFormat.RESULTS: results_list,
            TargetFormat.BURST: burst_document,
        }  # fmt: skip
        write_atomically(Path(out), json_text(documents[to](tracks)))
    for line in remarks:
        if strict:
            raise UserError(out, line, "leave out --strict to accept it")
        tell(f"warning: {line}")
    print(f"{out}: {len(tracks.videos)} videos, {count} tracks, {len(tracks.categories)} categories")


def _write_folder(tracks: TrackSet, to: TargetFormat, out: Path) -> list[str]:
    from harness.convert.mots import write_mots
    from harness.convert.palette import write_palette

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(str(out), "already exists and is not an empty folder", "name a new folder with --out")
    for video in tracks.videos:
        if ".." in Path(video.name).parts or Path(video.name).is_absolute() or "\0" in video.name:
            raise UserError(
                f"video {video.name}", "has a name with a path outside of the folder", "rename it in the file"
            )
    return write_mots(tracks, out) if to is TargetFormat.MOTS else write_palette(tracks, out)


def _read(
    source: Path, form: SourceFormat, frames: Path | None, names: Path | None, annotations: Path | None, data_root: Path
) -> TrackSet:
    from harness.convert import coco_frames, cvat, label_studio, palette, youtube_vis

    if names is not None and form is not SourceFormat.MASKS:
        raise UserError("--names", "needs --from masks", "leave it out")
    if form is SourceFormat.MASKS:
        return palette.read_palette(source, frames, names)
    if form is SourceFormat.CVAT:
        return cvat.read_cvat(source, frames)
    if form is SourceFormat.LABEL_STUDIO:
        return label_studio.read_label_studio(source, frames)
    if form is SourceFormat.COCO:
        return coco_frames.read_coco(source)
    if form is SourceFormat.RUN:
        from harness.reports.run_data import dataset_of_run
        from harness.run_folder.finished_run import FinishedRun

        run = FinishedRun(source)
        found = youtube_vis.read_predictions(run.store, dataset_of_run(run, data_root, annotations).annotations)
        missing = sorted(set(run.video_ids.run) - run.done)
        if missing:
            found.warnings.add(_WITHOUT_PREDICTIONS, f"{source}, video {missing[0]}", len(missing))
        return found
    if form is SourceFormat.BURST:
        from harness.convert.burst import read_burst_tracks

        return read_burst_tracks(source, annotations)
    if youtube_vis.is_results(source):
        if annotations is None:
            raise UserError(str(source), "is a results file", "name the annotation file with --annotations")
        return youtube_vis.read_results(source, annotations)
    return youtube_vis.read_truth(source)
