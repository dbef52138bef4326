"""Opens the data of a run folder: by the dataset's name and split, or from the user's own file."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness import plugins
from harness.errors import UserError
from harness.run_folder.finished_run import FinishedRun
from harness.types import Dataset

CUSTOM = "custom"
"""Split of data that a user named by --annotations."""


def dataset_of_run(
    run: FinishedRun, data_root: Path, annotations: Path | None = None, frames: Path | None = None
) -> Dataset:
    """Open the dataset of a run.

    It is searched below ``data_root`` and then at its path during the run, unless ``annotations`` names the file;
    ``frames`` is then the folder to which its file names are relative, and without it frames cannot be read. Raises
    `UserError` if the data is not found, or if its annotations differ from those of the run.
    """
    content = run.content
    if annotations is not None:
        dataset = _from_file(run, Path(annotations), frames)
    elif _is_file_alone(run):
        dataset = _where_it_lay(run, frames)
    else:
        dataset = _opened(run, data_root)
    if dataset.digest != content.digest:
        raise UserError(
            dataset.annotations.path,
            f"is not the file that {run.folder} was run on: its SHA-256 is {dataset.digest[:12]},"
            f" the run's {content.digest[:12]}",
            "name the right one as annotations or data_root, or repeat the run",
        )
    return dataset


def _is_file_alone(run: FinishedRun) -> bool:
    """Whether the data is an annotation file that the user named, and not a dataset below a data root."""
    lay = run.environment.data
    return "file" not in lay and (run.content.split == CUSTOM or ("annotations" in lay and "data_root" not in lay))


def _opened(run: FinishedRun, data_root: Path) -> Dataset:
    """A named dataset below ``data_root``, or else at its path during the run."""
    content, lay = run.content, run.environment.data
    name = lay["file"] if Path(lay.get("file", "")).is_file() else content.dataset
    try:
        return plugins.opened(name, data_root, content.split)
    except UserError:
        earlier = lay.get("data_root")
        if earlier is None or Path(earlier) == Path(data_root).absolute():
            raise
        with suppress(UserError):
            return plugins.opened(name, Path(earlier), content.split)
        raise


def _where_it_lay(run: FinishedRun, frames: Path | None) -> Dataset:
    """A user's own data at the paths in the run folder."""
    annotations, folder = run.environment.data.get("annotations"), run.environment.data.get("frames")
    what = f"was run on a user's own data ({run.content.dataset})"
    if annotations is None or not Path(annotations).is_file():
        gone = f", which is not at {annotations} now" if annotations else ""
        raise UserError(str(run.folder), f"{what}{gone}", "name the annotation file as annotations")
    if frames is None and folder is not None and Path(folder).is_dir():
        frames = Path(folder)
    return _from_file(run, Path(annotations), frames)


def _from_file(run: FinishedRun, annotations: Path, frames: Path | None) -> Dataset:
    opened = plugins.own_data(annotations, frames, _protocol(run, annotations))
    return replace(opened, name=run.content.dataset, split=run.content.split)


def _protocol(run: FinishedRun, annotations: Path) -> str:
    """The run's own protocol; of a run that is not scored yet, one that reads what the categories have."""
    try:
        return str(run.record["protocol"]["name"])
    except UserError:
        from harness.formats.youtube_vis import read_annotations

        partitioned = any(category.partition is not None for category in read_annotations(annotations).categories)
        return "lvvis" if partitioned else "ytvis"
