"""``harness record``: a run's numbers in a small file that others can verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UserError
from harness.paths import Location, location
from harness.standard_output import tell


def record(
    run: Annotated[Location, typer.Argument(metavar="RUN", parser=location, help="Run folder or its URL.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; default: the run folder's name with .record.json, in the working directory."),
    ] = None,
    hub_dataset: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="Id of the benchmark dataset on the Hugging Face Hub.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROTOCOL/METRIC=TASK",
            help="The benchmark's task that a metric belongs to; may be repeated. Default: every protocol's first"
            " metric.",
        ),
    ] = None,
    source_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="URL at which you publish the record; the Hub shows it as the source."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Include paths, user names and the list of all installed packages.")
    ] = False,
) -> None:
    """Write a record of a run: numbers, digests of predictions and data, model card, versions and hardware.

    It has no paths and no user names. Others verify it with `harness verify`. Next to it, in
    .eval_results, the same numbers are written in the form of model repositories on the Hugging Face Hub.

    Examples:

        harness record runs/oracle-shapes-val-1a2b3c4d --out oracle.json

        harness record runs/oracle-lvvis-val-1a2b3c4d --hub-dataset me/lv-vis --task lvvis/AP=val
    """
    from harness.atomic_write import write_atomically
    from harness.result_record import HubEntry, eval_results, record_of_run, write_record
    from harness.run_folder.finished_run import FinishedRun

    found = FinishedRun.open(run)
    path = out or Path(f"{found.id}.record.json")
    content = record_of_run(found, private)
    hub = HubEntry(hub_dataset or content["dataset"]["name"], _tasks(task or []), source_url)
    written = write_record(path, content)
    entries = path.parent / ".eval_results" / f"{path.name.partition('.')[0]}.yaml"
    tracks = written["predictions"]["tracks"]
    told = f"{path}: {', '.join(one['protocol']['name'] for one in written['protocols'])}, {tracks} tracks"
    if not hub.tasks and not any(v is not None for one in written["protocols"] for v in one["metrics"].values()):
        print(told)
        tell(f"harness: {entries}: is not written, since there are no official numbers")
        return
    text = eval_results(written, hub)
    entries.parent.mkdir(exist_ok=True)
    write_atomically(entries, text.encode())
    print(told)
    print(entries)
    if hub_dataset is None:
        what = "has the harness's name of the dataset as its id; the Hub needs the id of a benchmark"
        tell(f"harness: {entries}: {what}; name it with --hub-dataset ORG/NAME")


def _tasks(given: list[str]) -> dict[str, str]:
    found = {}
    for text in given:
        metric, equals, name = text.rpartition("=")
        if not equals or "/" not in metric or not name:
            raise UserError(f"--task {text}", "is not PROTOCOL/METRIC=TASK", "write it as in lvvis/AP=val")
        found[metric] = name
    return found
