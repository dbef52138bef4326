"""``harness datasets``: list the known datasets, check a copy, show frames, add a dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import DATA_ROOT, AsJson, DataRoot, OwnAnnotations, OwnFrames, OwnName, OwnProtocol
from harness.errors import EXIT_FAILED, UserError

app = typer.Typer(help="Datasets: list, check, show and add them.", no_args_is_help=True)


@app.command("list")
def list_datasets(data_root: DataRoot = DATA_ROOT, as_json: AsJson = False) -> None:
    """List the known datasets and their splits (the default one is marked *), and those added below the data root."""
    from harness import plugins
    from harness.datasets.described import described_below

    rows: list[dict[str, Any]] = []
    for name, package in plugins.names(plugins.DATASET_ENTRY_POINTS).items():
        plugin = plugins.dataset(name)
        splits = {"splits": list(plugin.splits), "default_split": plugin.default_split}
        rows.append({"name": name, "package": package, "summary": plugin.summary, **splits})
    for added in described_below(data_root):
        splits = {"splits": list(added.splits), "default_split": added.default_split}
        rows.append({"name": added.name, "package": added.file.name, "summary": added.summary, **splits})
    if as_json:
        print(json.dumps({"datasets": rows}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("dataset", "splits", "what it is", "package")
    for row in rows:
        splits_text = " ".join(f"{s}*" if s == row["default_split"] else s for s in row["splits"])
        table.add_row(row["name"], splits_text, row["summary"], row["package"])
    Console().print(table)


@app.command("check")
def check_dataset(
    name: Annotated[
        str | None, typer.Argument(help="Name of a dataset; default: list the content of the data root.")
    ] = None,
    data_root: DataRoot = DATA_ROOT,
    split: Annotated[str | None, typer.Option(help="Check this split only; default: all.")] = None,
    annotations: OwnAnnotations = None,
    frames: OwnFrames = None,
    protocol: OwnProtocol = None,
    dataset_name: OwnName = None,
    as_json: AsJson = False,
) -> None:
    """Check whether a copy of a dataset is complete; exit code 1 if it is not.

    Without a name: list the annotation files below the data root, the split of each and why, and the files that
    you must name; exit code 1 if none is recognised as a split.

    Examples:

        harness datasets check lvvis --data-root DIR --split val

        harness datasets check --data-root DIR

        harness datasets check --annotations instances.json --frames DIR --protocol lvvis
    """
    from harness import plugins
    from harness.plugin_code import convert_plugin_errors

    _refuse_two(name, annotations, (frames, protocol, dataset_name))
    if annotations is not None:
        from harness.datasets.own_data import check_own

        _report(check_own(annotations, frames, protocol, dataset_name).to_dict(), as_json)
        return
    if name is None:
        if split is not None:
            raise UserError("--split", "needs the name of a dataset", "name one, or leave out --split")
        if not _show_survey(data_root, as_json):
            raise typer.Exit(EXIT_FAILED)
        return
    plugin = plugins.dataset(name, data_root)
    with convert_plugin_errors(f"dataset {name}", "cannot be checked"):
        record: dict[str, Any] = plugin.check(data_root, split).to_dict()
    _report(record, as_json)


@app.command("add")
def add_dataset(
    name: Annotated[str, typer.Argument(help="Name of the dataset for --dataset.")],
    like: Annotated[str | None, typer.Option(help="A known dataset with the same categories and protocol.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Without --like: the protocol that scores it.")] = None,
    split: Annotated[str, typer.Option(help="Name of the split.")] = "val",
    of: Annotated[
        str | None, typer.Option(help="With --like: the split of that dataset; default: the same name.")
    ] = None,
    annotations: Annotated[Path | None, typer.Option(help="Annotation file; with --like it may be left out.")] = None,
    frames: Annotated[Path | None, typer.Option(help="Folder of the frames; with --like it may be left out.")] = None,
    videos: Annotated[
        Path | None,
        typer.Option(help="Use these videos only: a file with an id or name on each line, or an annotation file."),
    ] = None,
    without: Annotated[Path | None, typer.Option(help="Leave these videos out: a file as for --videos.")] = None,
    base: Annotated[Path | None, typer.Option(help="Base categories: a file with a name or id on each line.")] = None,
    novel: Annotated[Path | None, typer.Option(help="Novel categories: a file with a name or id on each line.")] = None,
    data_root: DataRoot = DATA_ROOT,
) -> None:
    """Write a small YAML file below the data root, so that --dataset NAME finds the files.

    For data of your own, for files that may be of several datasets, and for hold-outs: the videos of a split that a
    list names. The list's hash is recorded, and a changed list is refused. Numbers on hold-outs are marked as not
    comparable.

    Examples:

        harness datasets add mine --annotations instances.json --frames DIR --protocol lvvis --novel novel.txt

        harness datasets add holdout19 --like ytvis2019 --of train --videos ids.txt --data-root DIR

        harness datasets add long22 --like ytvis2022 --of val --without DIR/ytvis2021/valid.json --data-root DIR
    """
    from harness import plugins
    from harness.datasets.described import add_split
    from harness.input_files import ANNOTATION_BYTES, NOTE_BYTES, read_file
    from harness.run_folder.provenance import file_digest

    if (
        name in plugins.names(plugins.DATASET_ENTRY_POINTS)
        or Path(name).name != name
        or name.endswith((".yaml", ".yml"))
    ):
        raise UserError(f'"{name}"', "is already a dataset", "choose a name that `harness datasets list` does not show")
    if (like is None) == (protocol is None):
        raise UserError("harness datasets add", "needs one of --like and --protocol", "name one of them")
    if like is None and (annotations is None or frames is None or of is not None):
        raise UserError("--protocol", "needs --annotations and --frames, without --of", "name both files")
    file = data_root / f"{name}.yaml"
    lists = {"videos": videos, "without": without}
    paths = {"annotations": annotations, "frames": frames, **lists}
    given: dict[str, Any] = {key: _near_file(path, data_root) for key, path in paths.items() if path is not None}
    given |= {} if of is None else {"of": of}
    given |= {f"{key}_sha256": file_digest(path, ANNOTATION_BYTES) for key, path in lists.items() if path is not None}
    groups = {"base": base, "novel": novel}
    named = {group: _near_file(path, data_root) for group, path in groups.items() if path is not None}
    general: dict[str, Any] = {"like": like} if like is not None else {"protocol": protocol}
    general |= {"groups": named} if named else {}
    before = read_file(file, NOTE_BYTES, is_text=True) if file.exists() else None
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        dataset = add_split(file, name, split, given, general).open(data_root, split)
    except UserError:
        if before is None:
            file.unlink(missing_ok=True)
        else:
            file.write_bytes(before)
        raise
    tracks = "no truth" if dataset.truth is None else f"{len(dataset.truth.records)} tracks"
    print(f"{file}: {name} {split}, {len(dataset.videos)} videos, {len(dataset.categories)} categories, {tracks}")
    for sentence in dataset.differences or ():
        print(f"  not comparable: {sentence}")


def _near_file(path: Path, folder: Path) -> str:
    """A path as in the YAML file in ``folder``: relative if it is below the folder."""
    if not path.exists():
        raise UserError(str(path), "does not exist", "check the path")
    whole = path.resolve()
    base = folder.resolve()
    return whole.relative_to(base).as_posix() if whole.is_relative_to(base) else str(whole)


def _refuse_two(name: str | None, annotations: Path | None, others: tuple[Path | str | None, ...]) -> None:
    if name is not None and annotations is not None:
        raise UserError("--annotations", "replaces a dataset's name", "leave one of them out")
    if annotations is None and any(other is not None for other in others):
        raise UserError("--frames, --protocol and --dataset-name", "need --annotations", "name the file")


def _report(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(record))
    else:
        _show(record)
    if not record["complete"]:
        raise typer.Exit(EXIT_FAILED)


@app.command("show")
def show_dataset(
    name: Annotated[str | None, typer.Argument(help="Name of a dataset.")] = None,
    out: Annotated[Path | None, typer.Option(help="The picture to write; default: NAME-SPLIT.png.")] = None,
    split: Annotated[str | None, typer.Option(help="Split; default: the dataset's own.")] = None,
    data_root: DataRoot = DATA_ROOT,
    videos: Annotated[int, typer.Option(min=1, max=100, help="Videos to show, the first by id.")] = 6,
    frames: Annotated[int, typer.Option(min=1, max=20, help="Frames of each.")] = 5,
    annotations: OwnAnnotations = None,
    frames_folder: Annotated[Path | None, typer.Option(help="Folder of the frames of --annotations.")] = None,
    protocol: OwnProtocol = None,
    dataset_name: OwnName = None,
    as_json: AsJson = False,
) -> None:
    """Draw sample frames of a dataset, and below them the same frames with the truth: masks, colours by track, names.

    Example:

        harness datasets show shapes --out shapes.png
    """
    from PIL import Image as Pillow

    from harness import plugins
    from harness.atomic_write import atomic_write
    from harness.reports.overlay import contact_sheet

    _refuse_two(name, annotations, (frames_folder, protocol, dataset_name))
    if annotations is not None:
        from harness.datasets.own_data import open_own

        dataset = open_own(annotations, frames_folder, protocol, dataset_name)
    elif name is None:
        raise UserError("harness datasets show", "needs data", "name a dataset, or --annotations")
    else:
        dataset = plugins.opened(name, data_root, split)
    path = out or Path(f"{dataset.name}-{dataset.split}.png")
    with atomic_write(path) as file:
        Pillow.fromarray(contact_sheet(dataset, videos, frames)).save(file, "PNG")
    if as_json:
        print(json.dumps({"dataset": dataset.name, "split": dataset.split, "picture": str(path)}))
    else:
        print(path)


def _show_survey(data_root: Path, as_json: bool) -> bool:
    """Print the annotation files below the data root; return whether any is recognised as a split."""
    from harness import plugins
    from harness.datasets.discovery import Recogniser, survey

    if not data_root.is_dir():
        raise UserError(str(data_root), "is not a folder", "name the folder that holds the datasets with --data-root")
    known = (plugins.dataset(name) for name in plugins.names(plugins.DATASET_ENTRY_POINTS))
    found = survey(data_root, [plugin for plugin in known if isinstance(plugin, Recogniser)])
    record = {"folder": str(data_root), "files": [one.record(data_root) for one in found]}
    recognised = [one for one in found if one.recognised is not None]
    if as_json:
        print(json.dumps(record))
        return bool(recognised)
    others = len(found) - len(recognised)
    print(f"{data_root}: {len(recognised)} annotation files of known splits, {others} other JSON files")
    for one in found:
        row = one.record(data_root)
        print(f"\n{row['file']}: {row['recognised_as']}")
        for text in row["why"]:
            print(f"  why: {text}")
        if one.content is not None:
            print(f"  holds: {row['videos']} videos, {row['categories']} categories,"
                  f" {'truth' if row['has_truth'] else 'no truth'}")  # fmt: skip
            print(f"  frames: {row['frames'] or 'not found below the data root'}")
        if row["name_by_hand"]:
            print(f"  to do: {row['name_by_hand']}")
    return bool(recognised)


def _show(record: dict[str, Any]) -> None:
    print(f"{record['dataset']} in {record['folder']}: {'complete' if record['complete'] else 'incomplete'}")
    for split in record["splits"]:
        print(f"\n{split['split']}: {'complete' if split['complete'] else 'incomplete'}")
        if split["annotations"]:
            print(f"  annotations  {split['annotations']} ({split['release']})")
        if split.get("frames"):
            print(f"  frames       {split['frames']}")
        print(f"  truth        {split['truth']}")
        for what, expected in split["expected"].items():
            print(f"  {what:<12} {_count(split['found'][what], 'unknown'):>9} of {_count(expected, 'unstated')}")
        for what in ("missing_frames", "truncated_frames", "resized_frames"):
            if what in split:
                _show_fault(what.replace("_", " "), split[what])
        for text in split["faults"]:
            print(f"  fault: {text}")
        for text in split["notes"]:
            print(f"  note: {text}")
    if not record["complete"] and record["home"]:
        print(f"\nget the rest from {record['home']}")


def _show_fault(what: str, fault: dict[str, Any]) -> None:
    if fault["count"]:
        print(f"  {what}: {fault['count']:,}, first: {', '.join(fault['first'])}")


def _count(value: int | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:,}"
