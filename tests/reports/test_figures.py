"""Figures: which there are, the same bytes each time, and text that does no harm.

Tests of `harness/cli/figures.py`.
"""

from __future__ import annotations

import json
import re
import warnings
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from compared_runs import ODD, Runs
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from typer.testing import CliRunner, Result

from harness.cli.figures import figures
from harness.errors import UserError
from harness.reports import figures as drawn
from harness.reports.figures import COLUMN_WIDTH
from harness.reports.run_files import read_runs
from harness.video_file import open_video

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
    drawings, left_out = drawn.figures(subject)
    made = {drawing.name: shown(drawing.figure) for drawing in drawings}
    assert list(made) == [
        "precision_recall",
        "category_gains_1",
        "category_gains_2",
        "errors",
        "ablation_erode_px",
        "ablation_wrong_label",
        "ablation_score_noise",
        "speed_accuracy",
    ]
    assert "IoU 0.75" in made["precision_recall"]
    assert any(text.endswith("AP 100.0") for text in made["precision_recall"])
    assert "Gain in AP, points (number of videos)" in made["category_gains_1"]
    assert "classification" in made["errors"]
    (line,) = left_out
    assert line.startswith("frames: ")
    assert "erode_px" in made["ablation_erode_px"]
    assert "Seconds per video (mean)" in made["speed_accuracy"]


def test_text_from_files_is_text_and_no_formula(subject: drawn.FigureData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(drawn.STYLE, "svg.fonttype", "none")  # text stays text, so that it can be read
    gains = drawn.figures(subject)[0][1]
    found = ElementTree.fromstring(drawn.figure_bytes(gains.figure, "svg", [f"harness figures '{ODD}'"]))
    assert any(text.startswith(ODD[:20]) for text in ("".join(one.itertext()) for one in found.iter(TEXT)))


def test_curves_are_precision_at_the_recall_points(subject: drawn.FigureData) -> None:
    line = drawn.precision_recall(subject).axes[2].lines[1]
    recall, precision = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert len(recall) == 101
    assert precision.mean() == pytest.approx(100 * (subject.comparison.runs[1].metrics["AP"].value or 0))


def test_a_setting_that_does_not_differ_has_no_curve(subject: drawn.FigureData) -> None:
    with pytest.raises(UserError, match="topk"):
        drawn.ablation(subject, "topk")


@pytest.mark.parametrize("format", drawn.FIGURE_FORMATS)
def test_a_figure_is_the_same_bytes_each_time(subject: drawn.FigureData, format: drawn.FigureFormat) -> None:
    first, second = (drawn.figure_bytes(drawn.figures(subject)[0][-1].figure, format, ["told"]) for _ in range(2))
    assert first == second
    assert b"CreationDate" not in first
    assert b"dc:date" not in first


def test_files_of_one_run(compared: Runs, tmp_path: Path) -> None:
    result = run(compared.noisy, "--out", tmp_path / "new", "--json", "--mlflow")
    assert "was not logged to MLflow, so precision_recall.pdf, errors.pdf cannot be added to it" in result.stderr
    assert result.exit_code == 0, result.output
    names = ["precision_recall.pdf", "errors.pdf"]
    assert json.loads(result.stdout)["figures"] == [str(tmp_path / "new" / name) for name in names]
    assert "not drawn: frames" in result.stderr
    assert (tmp_path / "new" / "precision_recall.pdf").read_bytes().startswith(b"%PDF")


def test_a_figure_is_as_wide_as_a_column_or_the_page(subject: drawn.FigureData) -> None:
    look = drawn.checked_look(3.5, "serif")
    made = {one.name: one.figure for one in drawn.figures(replace(subject, look=look))[0]}
    page = 2 * 3.5 + drawn.GUTTER
    for name, figure in made.items():
        pdf = drawn.figure_bytes(figure, "pdf", look=look)
        width = float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", pdf)[1]) / 72  # type: ignore[index]
        assert width == pytest.approx(page if name == "precision_recall" else 3.5, abs=0.01), name
        assert b"DejaVuSerif" in pdf


def test_letters_that_the_font_lacks_are_collected() -> None:
    figure = Figure()
    figure.text(0.5, 0.5, "dog \U00013000")
    with drawn.letters_without_font() as lacking:
        drawn.figure_bytes(figure, "pdf")
    assert lacking == {"\U00013000"}
    with warnings.catch_warnings(record=True) as shown, drawn.letters_without_font() as lacking:
        warnings.filterwarnings("always", message="old", module="shown")
        warnings.filterwarnings("ignore", message="old", module="other")
        for module in ("shown", "other"):
            warnings.warn_explicit("old", DeprecationWarning, f"{module}.py", 1, module=module)
    assert [one.filename for one in shown] == ["shown.py"]
    assert lacking == set()


def test_nothing_leaves_the_figure_and_legends_cover_no_axes(subject: drawn.FigureData) -> None:
    for drawing in drawn.figures(subject)[0]:
        figure = drawing.figure
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        inside = figure.bbox.padded(3)
        for text in figure.findobj(Text):
            box = text.get_window_extent()
            is_tick = re.fullmatch(r"[−\d.]+", text.get_text())  # those beyond the axis are not drawn
            if text.get_text() and not is_tick and text.get_visible() and box.width:
                assert inside.x0 <= box.x0, (drawing.name, text.get_text())
                assert box.x1 <= inside.x1, (drawing.name, text.get_text())
        for legend in figure.legends:
            below = legend.get_window_extent().y1
            assert all(ax.get_window_extent().y0 >= below for ax in figure.axes), drawing.name


def test_categories_of_few_videos_are_hollow_and_counted(subject: drawn.FigureData) -> None:
    pair = subject.comparison.pairs[0]
    few = {one.name for one in pair.categories if one.difference.low is None}
    figure = drawn.category_gains(pair, subject)
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "#ffffff"]
    assert len(hollow) == len(few) > 0
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert all(re.search(r" \(\d+\)$", label) for label in labels)
    assert any("hollow" in text for text in shown(figure))


def test_frames_of_a_video_show_the_truth_and_every_run(two: list[Path], tmp_path: Path) -> None:
    result = run(*two, "--out", tmp_path, "--video", "2", "--json")
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "frames.pdf") in json.loads(result.stdout)["figures"]
    data = drawn.figure_data(read_runs(two), Path())
    assert data.dataset is not None
    figure = drawn.frames(data, data.dataset, 2)
    assert [ax.get_ylabel().split()[0] for ax in figure.axes if ax.get_ylabel()] == ["truth", "oracle", "oracle"]
    assert len(figure.axes) == 12
    assert "is not in shapes test" in str(run(*two, "--out", tmp_path, "--video", "999").exception)


def test_latex_shows_every_figure_with_caption_and_label(subject: drawn.FigureData) -> None:
    drawings, _ = drawn.figures(subject)
    text = drawn.in_latex(subject, drawings)
    assert re.findall(r"\\includegraphics\[[^]]*\]\{(.*)\.pdf\}", text) == [one.name for one in drawings]
    captions = re.findall(r"\\caption\{(.*)\}", text)
    found = subject.comparison
    where = f"{found.dataset} {found.split}, {found.videos} videos, {found.protocol} protocol"
    assert all(where in caption for caption in captions)
    labels = re.findall(r"\\label\{(.*)\}", text)
    assert len(set(labels)) == len(labels) == len(captions) == len(drawings)
    assert text.count("\\begin{figure*}") == sum(one.figure.get_figwidth() > COLUMN_WIDTH for one in drawings) > 0


def test_the_clip_is_the_whole_video_of_the_frames(two: list[Path], tmp_path: Path) -> None:
    result = run(*two, "--out", tmp_path, "--video", "2", "--clip", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["figures"][-1] == str(tmp_path / "frames.mp4")
    source, _ = open_video(tmp_path / "frames.mp4")
    data = drawn.figure_data(read_runs(two), Path())
    assert data.dataset is not None
    video = next(one for one in data.dataset.videos if one.id == 2)
    assert len(source.frames) == len(video.frames)
    assert source.width >= 3 * video.width  # the truth and two runs


def test_what_is_refused(compared: Runs, tmp_path: Path) -> None:
    result = run(compared.good, "--out", tmp_path, "--format", "png")
    assert "is not a format" in str(result.exception)
    assert "is not installed" in str(run(compared.good, "--out", tmp_path, "--font", "No Such Letters").exception)
    (tmp_path / "file").touch()
    assert "cannot be created" in str(run(compared.good, "--out", tmp_path / "file" / "x").exception)
