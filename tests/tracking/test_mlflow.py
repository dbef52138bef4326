"""What a run leaves in MLflow: in the embedded store, on a real server, and when there is none.

Tests of `harness/tracking/fields.py` and `harness/tracking/system_metrics.py`.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from harness.cli.main import build
from harness.errors import UserError
from harness.tracking.fields import read_tags
from harness.tracking.mlflow import MlflowTracker

DIGEST = "ab" * 32
PER_CATEGORY = [{"id": 1, "name": "cat", "AP": 0.5}, {"id": 2, "name": "dog", "AP": None}]


@pytest.fixture(autouse=True)
def no_server_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def make_run(runs: Path, name: str = "oracle-shapes-val-0123abcd", **config: Any) -> dict[str, Any]:
    """A finished run folder as `harness run` leaves it; returns its ``metrics.json``."""
    folder = runs / name
    folder.mkdir(parents=True)
    record = {
        "format": 1,
        "model": "oracle",
        "dataset": "shapes",
        "split": "val",
        "folder": str(folder),
        "complete": True,
        "protocol": {"name": "lvvis", "version": "1"},
        "metrics": {"AP": 0.625, "APb": 0.5, "APn": None},
        "corrected": {"AP": 0.75},
        "undefined": {"metrics": {"APn": "no truth in group novel"}},
        "warnings": [],
        "slices": {"area": {"small": 0.25, "large": None}},
        "videos": {"total": 12, "done": 12, "failed": []},
    }
    settings = {"model": "oracle", "dataset": "shapes", "split": "val", "seed": 0, "digest": DIGEST, **config}
    environment = {"cpu": {"model": "two fast cores"}, "git_commit": "c0ffee", "packages": {"a": "1"}}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "metrics.json").write_text(json.dumps(record))
    (folder / "per_category.csv").write_text("id,name,AP\n1,cat,0.5\n2,dog,\n")
    (folder / "table.md").write_text("| Method |\n")
    return record


def log(tracker: MlflowTracker, record: dict[str, Any]) -> list[str]:
    tracker.start(record)
    tracker.log_result(Path(record["folder"]), record, PER_CATEGORY)
    return tracker.finish(300)


def table_names(uri: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Categories of the table that the MLflow pages show for the only run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # `load_table` searches there, whatever its client's address
    run = only_run(uri)
    return list(MlflowClient(uri).load_table(run.info.experiment_id, "per_category.json")["name"])


def only_run(uri: str, experiment: str = "shapes") -> Any:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    return run


def check_everything_is_there(uri: str) -> None:
    run, client = only_run(uri), MlflowClient(uri)
    assert run.info.run_name == "oracle-0123abcd"
    assert run.info.status == "FINISHED"
    results = {key: value for key, value in run.data.metrics.items() if not key.startswith("system/")}
    assert results == {
        "AP": 0.625,
        "APb": 0.5,
        "corrected.AP": 0.75,
        "slices.area.small": 0.25,
        "videos.total": 12,
        "videos.done": 12,
        "videos.failed": 0,
    }
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 0
    assert run.data.params["seed"] == "0"
    assert run.data.params["config.drop_tracks"] == "0.1"
    tags = run.data.tags
    assert (tags["protocol.name"], tags["protocol.version"], tags["complete"]) == ("lvvis", "1", "true")
    assert (tags["git_commit"], tags["mlflow.source.git.commit"], tags["cpu.model"]) == (
        "c0ffee",
        "c0ffee",
        "two fast cores",
    )
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("shapes-val", DIGEST[:36])
    assert json.loads(data.dataset.source)["tags"]["annotations_sha256"] == DIGEST
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {
        "config.json",
        "environment.json",
        "metrics.json",
        "per_category.csv",
        "per_category.json",
        "table.md",
    }
    local = client.download_artifacts(run.info.run_id, "per_category.csv")
    assert "dog" in Path(local).read_text()
    assert run_list(uri)["selectedColumns"] == ["metrics.`AP`", "metrics.`APb`", "metrics.`APn`"]


def run_list(uri: str, experiment: str = "shapes") -> dict[str, Any]:
    """The saved view of an experiment's runs, as MLflow's page reads it."""
    found = MlflowClient(uri).get_experiment_by_name(experiment)
    assert found is not None
    view = json.loads(found.tags["mlflow.sharedViewState.harness"])
    packed = view["state"].removeprefix("deflate;")
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert view["name"] == ", ".join(column[9:-1] for column in state["selectedColumns"])
    return state


def test_the_embedded_store_holds_everything(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_run(runs, config={"drop_tracks": 0.1})
    assert log(MlflowTracker(runs), record) == []
    uri = f"sqlite:///{runs / '.mlflow' / 'mlflow.db'}"
    check_everything_is_there(uri)
    assert list((runs / ".mlflow" / "artifacts").rglob("per_category.csv"))
    assert table_names(uri, monkeypatch) == ["cat", "dog"]


def test_the_environment_variable_names_the_store(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path / 'other.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)  # MLflow puts the artifacts of such a store into the working directory
    assert log(MlflowTracker(runs), make_run(runs)) == []
    assert only_run(uri).data.metrics["AP"] == 0.625
    assert not (runs / ".mlflow" / "mlflow.db").exists()


def test_a_resumed_run_continues_its_mlflow_run(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_run(runs)
    tracker = MlflowTracker(runs)
    tracker.start(record)
    assert tracker.finish(300) == []
    uri = f"sqlite:///{runs / '.mlflow' / 'mlflow.db'}"
    assert only_run(uri).info.status == "KILLED"

    told = {"complete": False, "comparable": False, "not_comparable": ["2 of 837 videos", "1 of 2 videos failed"]}
    assert log(MlflowTracker(runs), {**record, **told}) == []
    assert only_run(uri).info.status == "FAILED"
    tags = only_run(uri).data.tags
    assert (tags["complete"], tags["comparable"]) == ("false", "false")
    assert tags["not_comparable"] == "2 of 837 videos; 1 of 2 videos failed"

    record["metrics"]["AP"] = 0.875
    assert log(MlflowTracker(runs), {**record, "comparable": True, "not_comparable": []}) == []
    run = only_run(uri)
    assert (run.data.tags["comparable"], run.data.tags["not_comparable"]) == ("true", "")
    assert (run.info.status, run.data.metrics["AP"], run.data.tags["complete"]) == ("FINISHED", 0.875, "true")
    assert len(run.inputs.dataset_inputs) == 1
    assert table_names(uri, monkeypatch) == ["cat", "dog"]


def test_a_view_of_runs_that_a_user_has_changed_is_kept(runs: Path) -> None:
    record = make_run(runs)
    assert log(MlflowTracker(runs), {**record, "metrics": {"HOTA": 0.5, "DetA": 0.5, "AssA": 0.5, "LocA": 0.5}}) == []
    client = MlflowClient(uri := f"sqlite:///{runs / '.mlflow' / 'mlflow.db'}")
    assert run_list(uri)["columnOrder"][1:4] == ["metrics.`HOTA`", "metrics.`DetA`", "metrics.`AssA`"]
    assert run_list(uri)["orderByKey"] == "metrics.`HOTA`"
    client.set_experiment_tag("1", "mlflow.sharedViewState.harness", "mine")
    assert log(MlflowTracker(runs), record) == []
    assert client.get_experiment("1").tags["mlflow.sharedViewState.harness"] == "mine"


def test_another_store_or_a_vanished_run_starts_a_new_mlflow_run(runs: Path, tmp_path: Path) -> None:
    record = make_run(runs)
    assert log(MlflowTracker(runs), record) == []
    first = json.loads((Path(record["folder"]) / "mlflow.json").read_text())["run_id"]

    second_uri = f"sqlite:///{tmp_path / 'second.db'}"
    client = MlflowClient(second_uri)
    client.create_experiment("shapes", artifact_location=(tmp_path / "artifacts").as_uri())
    assert log(MlflowTracker(runs, second_uri), record) == []
    second = only_run(second_uri).info.run_id
    assert second != first

    client.delete_run(second)
    assert log(MlflowTracker(runs, second_uri), record) == []
    assert only_run(second_uri).info.run_id != second

    link = Path(record["folder"]) / "mlflow.json"
    link.write_text(link.read_text().replace(only_run(second_uri).info.run_id, "0" * 32))
    assert log(MlflowTracker(runs, second_uri), record) == []


def test_a_damaged_link_is_reported_and_replaced(runs: Path) -> None:
    record = make_run(runs)
    (Path(record["folder"]) / "mlflow.json").write_text('{"run_id": ')
    (warning,) = log(MlflowTracker(runs), record)
    assert "mlflow.json" in warning
    assert log(MlflowTracker(runs), record) == []


def test_a_deleted_experiment_is_a_warning_that_names_the_mend(runs: Path) -> None:
    assert log(MlflowTracker(runs), make_run(runs)) == []
    client = MlflowClient(f"sqlite:///{runs / '.mlflow' / 'mlflow.db'}")
    client.delete_experiment("1")
    (warning,) = log(MlflowTracker(runs), make_run(runs, "oracle-shapes-val-ffffffff"))
    assert "mlflow experiments restore" in warning


def test_several_runs_share_one_tracker(runs: Path) -> None:
    tracker = MlflowTracker(runs)
    for name in ("oracle-shapes-val-00000001", "oracle-shapes-val-00000002"):
        assert log(tracker, make_run(runs, name)) == []
    client = MlflowClient(f"sqlite:///{runs / '.mlflow' / 'mlflow.db'}")
    assert {run.info.run_name for run in client.search_runs(["1"])} == {"oracle-00000001", "oracle-00000002"}


def test_an_experiment_is_named_by_the_caller_then_the_environment_then_the_dataset(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{runs / '.mlflow' / 'mlflow.db'}"
    record = make_run(runs)
    assert log(MlflowTracker(runs), record) == []
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "team/vis")
    assert log(MlflowTracker(runs), record) == []  # the folder's run lies in another experiment
    assert log(MlflowTracker(runs, experiment="mine"), record) == []
    assert [only_run(uri, name).data.metrics["AP"] for name in ("shapes", "team/vis", "mine")] == [0.625] * 3
    assert log(MlflowTracker(runs, experiment="mine"), record) == []  # goes on with the one that is there
    only_run(uri, "mine")


def test_user_and_tags_are_kept(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    tracker = MlflowTracker(runs, tags={"project": "tracking", "note": "a=b"})
    assert log(tracker, make_run(runs)) == []
    tags = only_run(f"sqlite:///{runs / '.mlflow' / 'mlflow.db'}").data.tags
    assert (tags["mlflow.user"], tags["project"], tags["note"]) == ("ada", "tracking", "a=b")


def test_a_user_without_a_name_is_no_fault(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert log(MlflowTracker(runs), make_run(runs)) == []


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["project"], "--tag project: is not key=value; for example --tag project=tracking"),
        (["=x"], "is not key=value"),
        (["a:b=1"], "MLflow does not accept this key; write it as a_b"),
        (["dataset=mine"], '"dataset" is a tag that every run has'),
        (["mlflow.user=me"], '"mlflow.user" is a tag that every run has'),
        (["a=1", "a=2"], "names a key twice"),
    ],
)
def test_tags_of_another_form_are_refused(tags: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_tags(tags)
    assert message in str(caught.value)
    assert read_tags(["a = b = c", "d="]) == {"a": " b = c", "d": ""}


def test_the_outcome_says_what_was_not_logged(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"http://me:secret@127.0.0.1:{free_port()}"
    lost = MlflowTracker(runs, uri)
    log(lost, make_run(runs))
    assert lost.outcome == f"not logged ({uri.replace('me:secret@', '')} cannot be used)"
    tracker = MlflowTracker(runs)
    log(tracker, make_run(runs, "oracle-shapes-val-00000001"))
    assert tracker.outcome == tracker.uri
    monkeypatch.setattr("harness.tracking.mlflow.reach_database", lambda uri: 1 / 0)
    log(tracker, make_run(runs, "oracle-shapes-val-00000002"))
    assert tracker.outcome == f"{tracker.uri}, 1 of 2 runs not logged"


def command(*arguments: str) -> Any:
    shared = ("run", "--model", "oracle", "--dataset", "shapes", "--limit", "1")
    return CliRunner().invoke(build(), [*shared, *arguments])


def test_the_command_takes_an_experiment_and_tags(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    done = command("--runs-dir", str(runs), "--experiment", "team", "--tag", "project=vis", "--tag", "stage=1")
    uri = f"sqlite:///{runs / '.mlflow' / 'mlflow.db'}"
    assert done.stdout.splitlines()[-1] == f"MLflow: {uri}"
    tags = only_run(uri, "team").data.tags
    assert (tags["project"], tags["stage"], tags["dataset"]) == ("vis", "1", "shapes")


def test_the_last_line_says_that_nothing_was_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    done = command("--runs-dir", str(tmp_path / "runs"))
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].startswith("MLflow: not logged (http://127.0.0.1:")
    assert "cannot be used" in done.stderr


def test_tags_without_mlflow_are_refused(tmp_path: Path) -> None:
    done = command("--runs-dir", str(tmp_path / "runs"), "--no-mlflow", "--tag", "a=b")
    assert str(done.exception) == "--no-mlflow: cannot be combined with --tag; leave out --tag or --no-mlflow"


def test_many_odd_and_long_parameters_and_keys_are_taken(runs: Path) -> None:
    config: dict[str, Any] = {f"key {number}": number for number in range(250)}
    config |= {"läng/../e$": "x" * 10_000, "address": "http://me:secret@host/x", "list": [1, 2], "nothing": None}
    record = make_run(runs, config=config)
    record["metrics"]["AP@[.5:.95]"] = 0.5
    assert log(MlflowTracker(runs), record) == []
    run = only_run(f"sqlite:///{runs / '.mlflow' / 'mlflow.db'}")
    assert run.data.params["config.key 249"] == "249"
    assert run.data.params["config.address"] == "http://host/x"
    assert run.data.params["config.list"] == "[1, 2]"
    assert run.data.metrics["AP__.5_.95_"] == 0.5


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real ``mlflow server`` on a free port of this machine with a store of its own."""
    port, home = free_port(), tmp_path / "server"
    home.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home / 'server.db'}"]
    command += ["--artifacts-destination", str(home / "files")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (home / "log").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process, home / "log")
        yield f"http://127.0.0.1:{port}", process
    finally:
        kill(process)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], output: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"mlflow server did not start: {output.read_text()[-2000:]}")


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers, which share its process group."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
    process.wait()


def test_a_real_server_holds_everything_then_dies_during_a_run(
    server: tuple[str, subprocess.Popen[bytes]],
    runs: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri, process = server
    assert log(MlflowTracker(runs, uri), make_run(runs, config={"drop_tracks": 0.1})) == []
    check_everything_is_there(uri)
    again = json.loads((runs / "oracle-shapes-val-0123abcd" / "metrics.json").read_text())
    assert log(MlflowTracker(runs, uri), again) == []
    only_run(uri)  # logged again to the same run
    assert not (runs / ".mlflow" / "mlflow.db").exists()

    capfd.readouterr()
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")  # the sampling thread may notice first
    record = make_run(runs, "oracle-shapes-val-ffffffff")
    tracker = MlflowTracker(runs, uri.replace("//", "//me:secret@"))
    tracker.start(record)
    assert tracker._thread.wait(60)
    kill(process)
    tracker.log_result(Path(record["folder"]), record, PER_CATEGORY)
    (warning,) = tracker.finish()
    assert uri in warning
    assert "refused" in warning
    assert tracker.finish() == []
    assert capfd.readouterr() == ("", "")
    assert "secret" not in warning + (Path(record["folder"]) / "mlflow.json").read_text()


def test_a_closed_port_costs_one_line_for_any_number_of_runs(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = MlflowTracker(runs, f"http://me:secret@127.0.0.1:{free_port()}")
    warnings = [
        warning
        for name in ("oracle-shapes-val-00000001", "oracle-shapes-val-00000002")
        for warning in log(tracker, make_run(runs, name))
    ]
    (warning,) = warnings
    assert "\n" not in warning
    assert "refused" in warning
    assert "secret" not in warning
    assert capfd.readouterr() == ("", "")


def test_a_server_that_never_answers_is_given_up(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        (warning,) = log(MlflowTracker(runs, f"http://127.0.0.1:{listener.getsockname()[1]}"), make_run(runs))
    assert "timed out" in warning


@pytest.mark.parametrize("uri", ["foo://host", "postgresql://me:secret@127.0.0.1:1/runs", "http://"])
def test_an_address_that_is_none_is_a_warning(runs: Path, uri: str) -> None:
    (warning,) = log(MlflowTracker(runs, uri), make_run(runs))
    assert "secret" not in warning
    assert "\n" not in warning


def test_a_store_that_cannot_be_written_is_a_warning(runs: Path) -> None:
    record = make_run(runs)
    (runs / ".mlflow" / "mlflow.db").mkdir(parents=True)
    (warning,) = log(MlflowTracker(runs), record)
    assert "mlflow.db" in warning


def test_the_environment_is_left_as_it_was(runs: Path) -> None:
    before = dict(os.environ)
    assert log(MlflowTracker(runs), make_run(runs)) == []
    assert dict(os.environ) == before


def test_a_fresh_process_prints_nothing_and_keeps_help_fast(runs: Path) -> None:
    record = make_run(runs)
    script = textwrap.dedent(
        """
        import json, sys
        from pathlib import Path
        from harness.tracking.mlflow import MlflowTracker
        assert not {"mlflow", "torch", "pandas"} & set(sys.modules)
        record = json.loads(Path(sys.argv[1], "metrics.json").read_text())
        tracker = MlflowTracker(Path(sys.argv[1]).parent)
        tracker.start(record)
        tracker.log_result(Path(sys.argv[1]), record, [])
        assert tracker.finish() == []
        """
    )
    done = subprocess.run([sys.executable, "-c", script, record["folder"]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_system_metrics_are_sampled_while_the_run_goes_on(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    record = make_run(runs)
    tracker = MlflowTracker(runs)
    tracker.start(record)
    assert tracker._thread.wait(60)
    client = MlflowClient(f"sqlite:///{runs / '.mlflow' / 'mlflow.db'}")
    run_id = json.loads((Path(record["folder"]) / "mlflow.json").read_text())["run_id"]
    end = time.monotonic() + 30
    while len(client.get_metric_history(run_id, "system/cpu_utilization_percentage")) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert tracker.finish() == []
    assert mlflow.active_run() is None
