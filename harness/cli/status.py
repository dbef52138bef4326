"""``harness status``: the progress of a run, from any machine with access to its folder."""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import EXIT_FAILED
from harness.paths import Location, location
from harness.plain_text import escaped, one_line
from harness.standard_output import lost_output

if TYPE_CHECKING:
    from harness.run_folder.progress import WorkerProgress
    from harness.run_folder.status import Status

SECONDS_BETWEEN_LOOKS = 2.0
_SHOWN_FAILURES = 5
_ADVICE = {
    "running": "running",
    "complete": "complete",
    "incomplete": "incomplete; repeat its command to try the failed videos again",
    "interrupted": "interrupted; repeat its command to resume",
    "stopped": "stopped by an error; repeat its command to resume",
    "dead": "not running: its process has ended without a message (killed?); repeat its command to resume",
}


def status(
    run: Annotated[Location, typer.Argument(metavar="RUN", parser=location, help="Run folder or its URL.")],
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every two seconds until the run ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; with --watch one per line.")] = False,
) -> None:
    """Show the progress of a run: videos, workers, throughput, failures, time left. Reads files only.

    Names the files that are damaged or were changed after the run.

    Exit code 0: running or complete; 1: incomplete, damaged, interrupted, stopped by an error, or its process is
    gone.

    Examples:

        harness status runs/clipvis-lvvis-val-1a2b3c4d --watch
    """
    from rich.console import Console

    from harness.run_folder.status import read_status

    while True:
        now = read_status(run)
        if as_json:
            print(json.dumps(now.record()), flush=True)
        else:
            if watch and sys.stdout.isatty():
                Console().clear()
            print(_text(now), flush=True)
        if not watch or now.state != "running" or lost_output() is not None:
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)
    raise typer.Exit(0 if now.state in ("running", "complete") and not now.damaged else EXIT_FAILED)


def _text(now: Status) -> str:
    share = f" ({100 * now.done / now.total:.0f} %)" if now.total else ""
    lines = [
        f"{escaped(now.folder)}: {_ADVICE[now.state]}",
        f"{now.done} of {now.total} videos{share}, {len(now.failed)} failed",
    ]
    if now.videos_per_second is not None and now.frames_per_second is not None:
        lines[1] += f", {now.videos_per_second:.2f} videos/s, {now.frames_per_second:.1f} frames/s"
    if now.seconds_left is not None:
        lines[1] += f", {timedelta(seconds=round(now.seconds_left))} left"
    if now.session is not None and now.session.workers:
        lines += ["", _workers(now.session.workers)]
    if now.failed:
        lines.append("")
    lines += [
        f"failed: video {failure.video_id}: {one_line(failure.error)}" for failure in now.failed[:_SHOWN_FAILURES]
    ]
    if len(now.failed) > _SHOWN_FAILURES:
        lines.append(f"failed: {len(now.failed) - _SHOWN_FAILURES} more, see failures.json")
    lines += [f"damaged: {line}" for line in now.damaged]
    return "\n".join(escaped(line) for text in lines for line in text.split("\n"))


def _workers(workers: list[WorkerProgress]) -> str:
    from harness.reports.terminal import fitted, terminal_width

    rows: list[list[str]] = []
    for number, worker in enumerate(workers):
        place = one_line(f"{worker.host} {worker.pid}") if worker.pid else ""
        video = "" if worker.video is None else f"video {worker.video} for {worker.video_seconds:.0f} s"
        speed = f"{worker.frames / worker.seconds:.1f}" if worker.seconds else ""
        rows.append(
            [
                str(number),
                one_line(worker.device),
                place,
                worker.state,
                video,
                str(worker.done),
                str(worker.failed),
                speed,
                str(worker.losses),
            ]
        )
    heads = ["worker", "device", "process", "state", "at", "done", "failed", "frames/s", "lost"]
    numbers = [head in ("done", "failed", "frames/s", "lost") for head in heads]
    return fitted(heads, rows, numbers, terminal_width())
