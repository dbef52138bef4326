"""A third party's package, built and installed as pip does it, brings a model and a dataset through entry points."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cli import main

SOURCE = Path(__file__).parent / "data" / "plugin_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the package is installed; nothing is taken from the network."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(SOURCE, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    target = [str(folder / "source"), "--target", str(folder / "site")]
    done = subprocess.run([*pip, *target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def command(*arguments: str, site: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-c", "from harness.cli.main import main; main()"]
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([*start, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_its_model_runs_on_its_dataset(installed: Path, tmp_path: Path) -> None:
    arguments = ["run", "--model", "corners", "--dataset", "dots", "--no-mlflow", "--json"]
    done = command(*arguments, site=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["runs"]
    assert (record["model"], record["dataset"], record["complete"]) == ("corners", "dots", True)
    assert record["protocol"]["name"] == "ytvis"
    assert record["metrics"]["AP"] == pytest.approx(1, abs=1e-12)


def test_its_model_takes_settings(installed: Path, tmp_path: Path) -> None:
    arguments = ["run", "--model", "corners", "--dataset", "dots", "--no-mlflow", "--json", "--set", "threshold=255"]
    done = command(*arguments, site=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"][0]["metrics"]["AP"] == 0


def test_our_model_runs_on_its_dataset_and_its_model_on_ours(installed: Path, tmp_path: Path) -> None:
    arguments = [
        "run",
        "--model",
        "oracle,corners",
        "--dataset",
        "dots,shapes",
        "--limit",
        "1",
        "--no-mlflow",
        "--json",
    ]
    done = command(*arguments, site=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pairs = [(record["model"], record["dataset"]) for record in json.loads(done.stdout)["runs"]]
    assert pairs == [("oracle", "dots"), ("oracle", "shapes"), ("corners", "dots"), ("corners", "shapes")]


def test_it_is_listed_with_its_package(installed: Path, tmp_path: Path) -> None:
    done = command("datasets", "list", "--json", site=installed, cwd=tmp_path)
    (dots,) = (d for d in json.loads(done.stdout)["datasets"] if d["name"] == "dots")
    assert dots["package"] == "somebodys-vis"


def test_a_plugin_that_does_not_load_is_named(installed: Path, tmp_path: Path) -> None:
    arguments = ["run", "--model", "unloadable", "--dataset", "dots", "--no-mlflow"]
    done = command(*arguments, site=installed, cwd=tmp_path)
    assert done.returncode == 2
    assert "entry point harness.models:unloadable (somebodys_vis:MISSING): does not load" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_its_model_passes_the_contract_suite(installed: Path, tmp_path: Path) -> None:
    script = 'from harness.testing import check_model; print(check_model("corners", {"threshold": 100}))'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("model corners: all rules kept\n")


@pytest.fixture
def own_folder(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, for commands in this process that find the package."""
    monkeypatch.syspath_prepend(installed)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("somebodys_noise", "somebodys_vis"):
        sys.modules.pop(name, None)


def in_this_process(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["harness", *arguments])
    return main._run()


def results_of_noisy(folder: Path) -> None:
    (folder / "results.json").write_text("[]")
    (folder / "frames").mkdir()
    for index in range(2):
        Image.fromarray(np.full((20, 30, 3), 40 * index, np.uint8)).save(folder / "frames" / f"{index:05d}.png")


@pytest.mark.parametrize(
    "arguments",
    [
        "models show noisy",
        "datasets check noisy",
        "datasets show noisy --out noisy.png",
        "run --model noisy --dataset noisy --no-mlflow --device cpu",
        "predict --model noisy --video frames --words cat --out seen --device cpu",
        "bench --model noisy --frames 2 --size 20x30 --repeats 1 --device cpu",
    ],
)
def test_plugins_that_print_do_not_disturb_the_json(
    arguments: str, own_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    results_of_noisy(own_folder)
    assert in_this_process(*arguments.split(), "--json", monkeypatch=monkeypatch) == 0
    out, err = capfd.readouterr()
    assert isinstance(json.loads(out), dict)
    assert {f"NOISE by {what}" for what in ("Python", "write", "C")} <= set(err.splitlines())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            "run --model corners --dataset leaving",
            "dataset leaving: cannot be opened: SystemExit: no licence; see the traceback",
        ),
        ("eval --dataset leaving --predictions results.json", "dataset leaving: cannot be opened: SystemExit: no lic"),
        (
            "datasets check leaving",
            "dataset leaving: cannot be checked: SystemExit; see the traceback (on the command line with --debug)",
        ),
        (
            "train --model clipvis --dataset noisy --out trained",
            "dataset noisy: its training set cannot be opened: Sys",
        ),
        (
            "run --model noisy --dataset dots --set threshold=0",
            "model noisy: its Config fails: SystemExit: 0; see the traceback",
        ),
        (
            "run --model noisy --dataset dots --set threshold=1",
            "model noisy on cpu: does not load: SystemExit: 0; see the traceback",
        ),
        ("run --model corners --dataset wrong", "dataset wrong: its open gives a dict, not a harness.types.Dataset"),
    ],
)
def test_plugins_that_end_the_program_are_named(
    arguments: str, line: str, own_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    extra = ["--no-mlflow"] if arguments.startswith("run") else []
    assert in_this_process(*arguments.split(), *extra, monkeypatch=monkeypatch) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert f"harness: {line}" in err
    assert "Traceback" not in err
