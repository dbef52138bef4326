"""The data a run folder was run on: found again by the dataset's name and split, or from the user's own file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness import plugins
from harness.datasets.categories import in_groups
from harness.datasets.youtube_vis_format import open_custom
from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations
from harness.run_folder.finished_run import FinishedRun
from harness.types import Dataset

CUSTOM = "custom"
"""Split of data that a user named by --annotations."""


def dataset_of_run(
    run: FinishedRun, data_root: Path, annotations: Path | None = None, frames: Path | None = None
) -> Dataset:
    """Open the dataset that a run was run on.

    Looked for below ``data_root``, unless ``annotations`` names the file; then ``frames`` is the folder to which its
    file names are relative, and without it the dataset has no videos to look at. Raises `UserError` where the data is
    not found, or is not what the run saw: its annotations have another digest.
    """
    content = run.content
    if annotations is not None:
        dataset = _from_file(run, Path(annotations), frames)
    elif content.split == CUSTOM:
        hint = "name the annotation file with --annotations"
        raise UserError(str(run.folder), f"was run on a user's own data ({content.dataset})", hint)
    else:
        dataset = plugins.opened(content.dataset, data_root, content.split)
    if dataset.digest != content.digest:
        raise UserError(
            dataset.annotations.path,
            f"is not the file that {run.folder} was run on: its SHA-256 is {dataset.digest[:12]},"
            f" the run's {content.digest[:12]}",
            "name the right one with --annotations or --data-root, or repeat the run",
        )
    return dataset


def _from_file(run: FinishedRun, annotations: Path, frames: Path | None) -> Dataset:
    content, protocol = run.content, run.record["protocol"]["name"]
    if frames is not None:
        opened = open_custom(annotations, Path(frames), protocol)
        return replace(opened, name=content.dataset, split=content.split)
    read = read_annotations(annotations)
    categories = in_groups(read.categories, protocol)
    return Dataset(content.dataset, content.split, categories, (), protocol, read)
