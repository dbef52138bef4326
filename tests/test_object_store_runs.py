"""Runs whose folder lies in an object store: the same bytes as on a disk, resumed, watched, read by every command."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from object_stores import CREDENTIALS
from oracle_runs import oracle_run
from small_runs import SmallModel, make_run
from typer.testing import CliRunner
from worker_runs import faulty_run

from harness import plugins
from harness.atomic_write import write_atomically
from harness.cli.main import build
from harness.engines import processes
from harness.errors import UserError
from harness.paths import Location, ObjectPath, location
from harness.reports.tables import table_of_run
from harness.run_folder.status import read_status
from harness.runner import Run, execute
from harness.tracking.mlflow import MlflowTracker

UNEQUAL = ("environment.json", "timings.json", "progress.json", "run.log", "SHA256SUMS", "mlflow.json")
"""Files that say when and where; all others are the same in every run."""


def contents(run: Run) -> dict[str, bytes]:
    """The files that must not depend on where the folder lies."""
    named = str(run.folder).encode()
    files = [*run.folder.glob("*.*"), *run.store.folder.glob("*")]
    kept = [path for path in files if path.name not in UNEQUAL and not path.name.startswith("run.lock")]
    return {path.name: path.read_bytes().replace(named, b"FOLDER") for path in kept}


def test_an_interrupted_run_goes_on_and_has_the_bytes_of_one_on_a_disk(
    store_folder: ObjectPath, tmp_path: Path
) -> None:
    def stop(video_id: int) -> None:
        if video_id == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(make_run(store_folder, SmallModel(stop)))
    run, near = make_run(store_folder), make_run(tmp_path)
    assert run.store.done() == {1, 2}
    status = read_status(run.folder)
    assert (status.state, status.done, status.total) == ("interrupted", 2, 4)
    model = SmallModel()
    assert execute(make_run(store_folder, model)).exit_code == 0
    assert model.seen == [3, 4]
    execute(near)
    assert contents(run) == contents(near)
    assert "metrics.json" in contents(run)
    assert read_status(run.folder).state == "complete"
    logged = (run.folder / "run.log").read_bytes().decode()
    assert logged.count(f"run {run.folder.name}, content") == 2
    assert logged.endswith("complete\n")
    again = SmallModel()
    assert execute(make_run(store_folder, again)).exit_code == 0
    assert again.loads == 0
    assert execute(make_run(store_folder, again), fresh=True).exit_code == 0
    assert again.seen == [1, 2, 3, 4]
    assert contents(run) == contents(near)


def test_workers_write_to_the_store_themselves(s3_folder: ObjectPath, tmp_path: Path) -> None:
    far, near = faulty_run(s3_folder), faulty_run(tmp_path)  # type: ignore[arg-type]
    assert execute(far, engine=partial(processes.process_pool, devices=["cpu", "cpu"])).exit_code == 0
    execute(near)
    assert contents(far) == contents(near)


def test_a_damaged_shard_is_computed_anew(s3_folder: ObjectPath) -> None:
    run = make_run(s3_folder)
    execute(run)
    before = contents(run)
    path = run.store.path(2)
    assert isinstance(path, ObjectPath)
    path.write(path.read_bytes()[:-9])
    assert execute(run).exit_code == 0
    assert contents(run) == before


def test_a_run_that_needs_scratch_has_it_on_this_machine(
    s3_folder: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    scratch = make_run(s3_folder).scratch
    assert scratch.parent == tmp_path / "ovvis-harness" / "scratch"
    assert scratch != make_run(s3_folder / "other").scratch


def test_a_run_is_logged_to_mlflow_with_its_files(s3_folder: ObjectPath, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run, tracker = make_run(s3_folder), MlflowTracker(tmp_path)
    assert execute(run, tracker, table=table_of_run).exit_code == 0
    link = json.loads((run.folder / "mlflow.json").read_bytes())
    client = MlflowClient(tracking_uri=link["tracking_uri"])
    assert client.get_run(link["run_id"]).data.metrics["AP"] == execute(run).record["metrics"]["AP"]
    assert {"metrics.json", "table.md"} <= {found.path for found in client.list_artifacts(link["run_id"])}


def test_what_the_store_is_reached_with_is_written_nowhere(
    s3_folder: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "--model", "oracle", "--dataset", "shapes", "--limit", "2", "--runs-dir", str(s3_folder)]
    result = CliRunner().invoke(build(), arguments)
    assert result.exit_code == 0, result.output
    written = [path.read_bytes() for path in s3_folder.rglob("*")]
    written += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    for secret in CREDENTIALS["AWS_SECRET_ACCESS_KEY"], CREDENTIALS["AWS_ACCESS_KEY_ID"]:
        assert secret not in result.output
        assert not [data for data in written if secret.encode() in data]


@pytest.fixture(scope="module")
def two(s3: str) -> list[Location]:
    """Folders in S3 of two finished runs of the oracle."""
    shapes, folder = plugins.dataset("shapes").open(Path(), "val"), location("s3://bucket/two")
    return [oracle_run(folder, shapes, score_noise=noise) for noise in (0.1, 1.0)]  # type: ignore[arg-type, list-item]


def test_the_viewer_reads_and_follows_it(two: list[Location]) -> None:
    from harness.reports.view_server import Library, make_app

    shapes, run = plugins.dataset("shapes").open(Path(), "val"), two[0]
    record = (run / "metrics.json").read_bytes()
    (run / "metrics.json").unlink()
    try:
        library = Library(shapes, two)
        assert [(one.label, int(one.done.sum())) for one in library.index.runs] == [
            ("oracle score_noise=0.1", 150),
            ("oracle score_noise=1.0", 150),
        ]
        assert library.index.runs[0].metrics == {}
        assert not library.refresh()
    finally:
        write_atomically(run / "metrics.json", record)
    assert library.refresh()
    assert library.index.runs[0].metrics["AP"] == library.runs[0].metrics["AP"]
    client = make_app(library, "token").test_client()
    shown = client.get(f"/token/api/video/{shapes.videos[0].id}").json
    assert shown is not None
    assert shown["runs"][0]["tracks"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["status", "FIRST"], "150 of 150 videos (100 %)"),
        (["table", "FIRST", "SECOND", "--intervals"], "score_noise"),
        (["compare", "FIRST", "SECOND"], "APb-APn"),
        (["analyse", "FIRST"], "classification"),
        (["figures", "FIRST", "SECOND", "--out", "figures"], "figures/"),
        (["report", "FIRST", "SECOND", "--out", "report.html"], "report.html"),
        (["leaderboard", "s3://bucket/two", "--out", "site"], "site/index.html"),
        (["regress", "FIRST", "--baseline", "base.json", "--update"], "base.json"),
        (["export", "FIRST", "--format", "results"], "/results.json: "),
        (["export", "FIRST", "--out", "s3://bucket/out/submission.zip"], "s3://bucket/out/submission.zip: "),
        (["eval", "--dataset", "shapes", "--predictions", "FIRST", "--json"], '"AP": '),
    ],
)
def test_every_command_reads_it(
    two: list[Location], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [{"FIRST": str(two[0]), "SECOND": str(two[1])}.get(argument, argument) for argument in arguments]
    result = CliRunner().invoke(build(), given)
    assert result.exit_code == 0, result.output
    assert expected in result.output


def test_exported_results_are_scored_where_they_lie(two: list[Location]) -> None:
    invoke: Any = CliRunner().invoke
    exported = invoke(build(), ["export", str(two[0]), "--format", "results", "--out", "s3://bucket/out/results.json"])
    assert exported.exit_code == 0, exported.output
    scored = invoke(build(), ["eval", "--dataset", "shapes", "--predictions", "s3://bucket/out/results.json", "--json"])
    recorded = json.loads((two[0] / "metrics.json").read_bytes())
    assert json.loads(scored.stdout)["metrics"] == recorded["metrics"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table", "s3://bucket/nothing"], "s3://bucket/nothing: does not exist"),
        (["status", "s3://bucket/nothing"], "s3://bucket/nothing: is not a run folder"),
        (["compare", "s3://bucket/nothing", "s3://bucket/none"], "s3://bucket/nothing: does not exist"),
        (["eval", "--dataset", "shapes", "--predictions", "s3://bucket/no.json"], "no.json: does not exist"),
        (["leaderboard", "s3://bucket/nothing"], "s3://bucket/nothing: is not a folder"),
        (["run", "--model", "oracle", "--dataset", "shapes", "--runs-dir", "s4://b"], '"s4" is no object store'),
        (["run", "--model", "oracle", "--dataset", "shapes", "--no-mlflow", "--runs-dir", "s3://nobody-has-this/runs"],
         "s3://nobody-has-this/runs/oracle-shapes-val-"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_in_one_line(s3: str, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(build(), arguments)
    assert isinstance(result.exception, UserError), result.output
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
