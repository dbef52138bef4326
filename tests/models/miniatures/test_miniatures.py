"""The shipped miniatures: what is in the package is what the card says, and a run takes it without being told.

Tests of `models/miniatures/clip.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import plugins
from harness.cli.main import build
from harness.models import miniatures
from harness.run_folder.provenance import file_digest

MODELS = ("clipvis", "ov2seg")
GATE = Path(__file__).parents[2] / "data" / "gate"


@pytest.mark.parametrize("model", MODELS)
def test_the_card_is_of_the_shipped_weights(model: str) -> None:
    weights, card = miniatures.weights(model, "shapes"), miniatures.miniature_card(model)
    assert weights is not None
    assert file_digest(weights) == card["sha256"]
    assert weights.stat().st_size < 8 << 20
    assert miniatures.weights(model, "lvvis") is None
    assert not any(part.startswith("/") for command in card["commands"] for part in command.split())


@pytest.mark.parametrize("model", MODELS)
def test_the_card_tells_the_numbers_of_the_gate(model: str) -> None:
    stored = json.loads((GATE / f"{model}.json").read_text())["metrics"]
    card = miniatures.miniature_card(model)
    assert card["metrics"] == {name: stored[name] for name in card["metrics"]}
    assert card["metrics"]["AP"] >= 0.4
    assert card["metrics"]["APn"] >= 0.3


@pytest.mark.parametrize("model", MODELS)
def test_the_models_card_shows_its_miniature(model: str) -> None:
    shown = CliRunner().invoke(build(), ["models", "show", model]).output
    assert "shipped miniature:" in shown
    assert f"APn: {miniatures.miniature_card(model)['metrics']['APn']:.4f}" in shown
    assert f"harness train --model {model} --dataset shapes" in shown


def test_no_miniature_was_trained_on_a_novel_category() -> None:
    training_set = plugins.dataset("shapes").training_set(Path(), "train")
    used = {c for item in range(len(training_set)) for c in training_set.categories_of(item)}
    assert not any("novel" in training_set.categories[c].groups for c in used)
    assert miniatures.miniature_card("clipvis")["dataset"].startswith("shapes train")


@pytest.mark.parametrize("model", MODELS)
def test_a_run_on_shapes_takes_the_shipped_weights(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = ["run", "--model", model, "--dataset", "shapes", "--limit", "3", "--no-mlflow", "--json"]
    done = CliRunner().invoke(build(), [*arguments, "--runs-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout.splitlines()[-1])["runs"][0]
    config = json.loads((Path(record["folder"]) / "config.json").read_text())
    assert config["checkpoint"] == miniatures.miniature_card(model)["sha256"]
    assert record["metrics"]["AP50"] > 0.3
