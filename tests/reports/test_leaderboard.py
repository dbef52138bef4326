"""The leaderboard: one page per dataset and split, a ranking, a history, and what could not be read.

Tests of `harness/cli/leaderboard.py` and `reports/history.py`.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from oracle_runs import HOSTILE
from run_folders import make_record, make_run
from typer.testing import CliRunner

from harness.cli.main import build
from harness.errors import UserError
from harness.reports.leaderboard import find_runs, site


def put(runs: Path, name: str, time: str | None = None, commit: str = "c0ffee", **record: Any) -> Path:
    """A run folder at ``name`` below ``runs``, with the time and the commit of its start."""
    made = make_record(record.pop("model", "clipvis"), record.pop("dataset", "lvvis"), **record)
    folder = make_run(runs, made, name)
    environment = {"time": time, "working_directory_commit": commit * 6, "git_commit": "f" * 40}
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


def test_a_page_for_each_dataset_and_links_that_stay_inside(tmp_path: Path) -> None:
    put(tmp_path, "a/clipvis-lvvis-val-00000001", AP=0.3)
    put(tmp_path, "b/clipvis-ovis-val-00000002", dataset="ovis", AP=0.2)
    files = site(find_runs(tmp_path))
    pages = {name for name in files if name.endswith(".html")}
    assert pages == {"index.html", "lvvis-val.html", "ovis-val.html"}
    for name in pages:
        links = re.findall(r'(?:href|src)="([^"#]*)"', files[name])
        assert {link for link in links if link != "data:,"} <= set(files)
        assert "default-src 'none'" in html.unescape(files[name])
    assert "CLIP-VIS, ConvNeXt-B, LVIS" in files["lvvis-val.html"]  # published
    (line,) = [line for line in files["lvvis-val.html"].splitlines() if "SAM3-ASH (training-free), SAM 3" in line][1:]
    assert "split not stated by the source" in line


def test_further_metrics_are_columns_where_a_run_has_them(tmp_path: Path) -> None:
    record = make_record("clipvis", AP=0.3)
    further = {"protocol": {"name": "hota", "version": "1", "score_threshold": 0.5}, "metrics": {"HOTA": 0.4125}}
    make_run(tmp_path, {**record, "protocols": [*record["protocols"], further]}, "a")
    put(tmp_path, "b", dataset="ovis", AP=0.2)
    files = site(find_runs(tmp_path), metrics=("hota@0.5/HOTA", "lvvis/AP50"))
    assert ">41.3<" in files["lvvis-val.html"]
    assert "hota<wbr>@0.5/HOTA" in files["lvvis-val.html"]
    assert "HOTA" not in files["ovis-val.html"].partition("</table>")[0]
    assert ">41.3<" in files["index.html"]
    result = CliRunner().invoke(build(), ["leaderboard", str(tmp_path), "--metric", "hota/HOTA"])
    assert '"hota/HOTA" is not a metric of these runs' in str(result.exception)


def test_complete_runs_are_ranked_and_partial_ones_stand_behind(tmp_path: Path) -> None:
    put(tmp_path, "low", AP=0.2)
    put(tmp_path, "high", model="ov2seg", AP=0.3)
    put(tmp_path, "part", AP=0.9, done=5)
    page = site(find_runs(tmp_path))["lvvis-val.html"]
    assert re.findall(r"<code>(low|high|part)</code>", page) == ["high", "low", "part"]
    assert "ov2seg" in site(find_runs(tmp_path))["index.html"].partition("All runs")[0]


def test_runs_that_differ_in_the_code_only_are_joined(tmp_path: Path) -> None:
    for day in (1, 2, 3):
        put(tmp_path, f"{day}/clipvis-lvvis-val-00000001", f"2026-01-0{day}T10:00:00+00:00", f"ab{day}", AP=day / 10)
    put(tmp_path, "old", AP=0.5)
    page = site(find_runs(tmp_path))["lvvis-val.html"]
    chart = page.partition('data-metric="AP"')[2].partition("</figure>")[0]
    assert chart.count("<circle") == 3
    assert chart.count('<path class="line') == 1
    assert "2026-01-02 10:00, ab2ab2ab2a" in chart
    assert "1 run of an earlier version of the harness has no start time" in page


def test_what_cannot_be_read_is_told_and_keeps_nothing_away(tmp_path: Path) -> None:
    put(tmp_path, "good", AP=0.3)
    put(tmp_path, "bad", AP=0.3)
    (tmp_path / "bad" / "metrics.json").write_text("{")
    found = find_runs(tmp_path)
    assert list(found.runs) == ["good"]
    assert "1 folder cannot be read; first: bad: " in site(found)["index.html"]
    result = CliRunner().invoke(build(), ["leaderboard", str(tmp_path), "--out", str(tmp_path / "site")])
    assert result.exit_code == 1, result.output
    assert "left out: bad" in result.stderr
    assert (tmp_path / "site" / "index.html").is_file()


def test_copies_in_hidden_folders_are_no_runs(tmp_path: Path) -> None:
    put(tmp_path, "a/clipvis-lvvis-val-00000001", AP=0.3)
    put(tmp_path, ".mlflow/artifacts/0123/artifacts", AP=0.3)
    put(tmp_path, "a/.old/clipvis-lvvis-val-00000001", AP=0.2)
    assert list(find_runs(tmp_path).runs) == ["a/clipvis-lvvis-val-00000001"]
    assert list(find_runs(tmp_path / ".mlflow").runs) == ["artifacts/0123/artifacts"]


def test_names_are_text_and_lead_nowhere(tmp_path: Path) -> None:
    put(tmp_path, "a", dataset="../../index", AP=0.1)
    put(tmp_path, "b", dataset=HOSTILE, model=HOSTILE, AP=0.1)
    files = site(find_runs(tmp_path))
    assert all(re.fullmatch(r"(assets/)?[\w-]+\.(html|css|js)|\.nojekyll", name) for name in files)
    for name, text in files.items():
        if name.endswith(".html"):
            assert "<script>" not in text
            assert "\u2028" not in text


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished run"):
        find_runs(tmp_path)
    (put(tmp_path, "bad", AP=0.3) / "metrics.json").write_text("{")
    with pytest.raises(UserError, match="holds no run that can be read; first: bad: is not the record of a run"):
        find_runs(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        find_runs(tmp_path / "none")
