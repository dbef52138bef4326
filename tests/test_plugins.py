"""A third party's package, built and installed as pip does it, brings a model and a dataset through entry points."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
