"""Figures: which there are, the same bytes each time, and text that does no harm.

Tests of `harness/cli/figures.py`.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import typer
from compared_runs import ODD, Runs
from matplotlib.figure import Figure
from matplotlib.text import Text
from typer.testing import CliRunner, Result

from harness.cli.figures import figures
from harness.errors import UserError
from harness.reports import figures as drawn
from harness.reports.run_files import read_runs

TEXT = "{http://www.w3.org/2000/svg}text"


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(figures)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def subject(compared: Runs) -> drawn.FigureData:
    return drawn.figure_data(read_runs([compared.noisy, compared.good, compared.blurred]), Path("data"))


def shown(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def test_the_figures_of_three_runs(subject: drawn.FigureData) -> None:
    made = {drawing.name: shown(drawing.figure) for drawing in drawn.figures(subject)}
    assert list(made) == [
        "precision_recall",
        "category_gains_1",
        "category_gains_2",
        "ablation_erode_px",
        "ablation_wrong_label",
        "ablation_score_noise",
        "speed_accuracy",
    ]
    assert "IoU 0.75" in made["precision_recall"]
    assert any(text.endswith("AP 100.0") for text in made["precision_recall"])
    assert "Gain in AP (points)" in made["category_gains_1"]
    assert "erode_px" in made["ablation_erode_px"]
    assert "Seconds per video (mean)" in made["speed_accuracy"]


def test_text_from_files_is_text_and_no_formula(subject: drawn.FigureData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(drawn.STYLE, "svg.fonttype", "none")  # text stays text, so that it can be read
    gains = drawn.figures(subject)[1]
    found = ElementTree.fromstring(drawn.rendered(gains.figure, "svg", [f"harness figures '{ODD}'"]))
    assert ODD in ["".join(one.itertext()) for one in found.iter(TEXT)]


def test_curves_are_precision_at_the_recall_points(subject: drawn.FigureData) -> None:
    line = drawn.precision_recall(subject).axes[2].lines[1]
    recall, precision = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert len(recall) == 101
    assert precision.mean() == pytest.approx(100 * (subject.comparison.runs[1].metrics["AP"].value or 0))


def test_a_setting_that_does_not_differ_has_no_curve(subject: drawn.FigureData) -> None:
    with pytest.raises(UserError, match="topk"):
        drawn.ablation(subject, "topk")


@pytest.mark.parametrize("format", drawn.FORMATS)
def test_a_figure_is_the_same_bytes_each_time(subject: drawn.FigureData, format: drawn.Format) -> None:
    first, second = (drawn.rendered(drawn.figures(subject)[-1].figure, format, ["told"]) for _ in range(2))
    assert first == second
    assert b"CreationDate" not in first
    assert b"dc:date" not in first


def test_files_of_one_run(compared: Runs, tmp_path: Path) -> None:
    result = run(compared.noisy, "--out", tmp_path / "new", "--json", "--mlflow")
    assert "was not logged to MLflow, so precision_recall.pdf cannot be added to it" in result.stderr
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["figures"] == [str(tmp_path / "new" / "precision_recall.pdf")]
    assert (tmp_path / "new" / "precision_recall.pdf").read_bytes().startswith(b"%PDF")


def test_what_is_refused(compared: Runs, tmp_path: Path) -> None:
    result = run(compared.good, "--out", tmp_path, "--format", "png")
    assert "is not a format" in str(result.exception)
    (tmp_path / "file").touch()
    assert "cannot be created" in str(run(compared.good, "--out", tmp_path / "file" / "x").exception)
