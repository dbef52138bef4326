"""``harness view``: runs in the browser, by a server on this machine."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DATA_ROOT, DataRoot, RunAnnotations
from harness.errors import UserError
from harness.paths import Location, location


def view(
    runs: Annotated[
        list[Location],
        typer.Argument(
            metavar="RUN...", parser=location, help="Run folders or their URLs on the same data; also unfinished ones."
        ),
    ],
    data_root: DataRoot = DATA_ROOT,
    annotations: RunAnnotations = None,
    frames: Annotated[Path | None, typer.Option(help="Folder of the frames of --annotations.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 0,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Show every video and every track of runs in the browser, with filters; also during a run.

    The server listens on this machine only, and its address has a token. It ends with Ctrl-C.

    Examples:

        harness view runs/oracle-shapes-val-1a2b3c4d

        harness view runs/ov2seg-lvvis-* runs/clipvis-lvvis-* --data-root DIR
    """
    from werkzeug.serving import make_server

    from harness.cli.output import runs_among
    from harness.reports.run_data import dataset_of_run
    from harness.reports.view_server import Library, make_app, new_token
    from harness.run_folder.finished_run import RECORD, FinishedRun

    folders = [one.parent if one.name == RECORD else one for one in runs_among(runs)]
    opened = [FinishedRun(folder) for folder in dict.fromkeys(folders)]
    first = opened[0].content
    for run in opened[1:]:
        if (run.content.dataset, run.content.split, run.content.digest) != (first.dataset, first.split, first.digest):
            what = f"{opened[0].id} is on {first.dataset} {first.split}, {run.id} on other data"
            raise UserError("harness view", what, "name runs on the same data")
    dataset = dataset_of_run(opened[0], data_root, annotations, frames)
    print("harness: reading the runs", file=sys.stderr)
    library, token = Library(dataset, [run.folder for run in opened]), new_token()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    try:
        server = make_server("127.0.0.1", port, make_app(library, token), threaded=True)
    except (OSError, SystemExit) as error:
        raise UserError(f"port {port}", f"cannot be used ({error})", "name another one with --port") from error
    address = f"http://127.0.0.1:{server.server_port}/{token}/"
    print(address, flush=True)
    library.watch()
    if browser and sys.stdout.isatty():
        import webbrowser

        webbrowser.open(address)
    try:
        server.serve_forever()
    finally:
        library.close()
        server.server_close()
