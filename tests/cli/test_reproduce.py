"""``harness reproduce``: stand-in weights on small copies of datasets, and everything else listed as missing.

Tests of `reports/reproduction.py`.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from dataset_copies import annotation_document, write_frames
from tiny_clipvis import tiny_with_weights
from typer.testing import CliRunner

from harness.cli.main import build
from harness.reports.published import results
from harness.reports.reproduction import number_of

PUBLISHED = next(r for r in results() if r.label == "CLIP-VIS, R50, LVIS" and (r.dataset, r.split) == ("LV-VIS", "val"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP-VIS of few weights, and small copies of LV-VIS val, with truth, and test, without."""
    folder = tmp_path_factory.mktemp("reproduce")
    torch.save(tiny_with_weights(folder).state_dict(), folder / "tiny.pth")
    for split, truth in (("val", True), ("test", False)):
        document = annotation_document("lvvis", truth=truth)
        (folder / "data/lvvis").mkdir(parents=True, exist_ok=True)
        (folder / f"data/lvvis/{split}_instances_.json").write_text(json.dumps(document))
        write_frames(folder / f"data/lvvis/{split}/JPEGImages")
    return folder


def reproduce(folder: Path, *arguments: str) -> Any:
    options = ["--data-root", str(folder / "data"), "--runs-dir", str(folder / "runs"), "--device", "cpu"]
    return CliRunner().invoke(build(), ["reproduce", "clipvis", *options, *arguments])


def test_the_plan_lists_every_variant_and_what_is_missing(place: Path) -> None:
    done = reproduce(place, "--checkpoint", f"1={place / 'tiny.pth'}", "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert len(record["cases"]) == 24
    first, second, third = record["cases"][:3]
    assert (first["variant"], first["dataset"], first["split"], first["status"]) == (1, "lvvis", "val", "to run")
    assert first["numbers"][0]["published"] == 19.5
    assert (first["numbers"][0]["low"], first["numbers"][0]["high"]) == (19.45, 19.55)
    assert second["split"] == "test"
    assert second["missing"][0]["reason"] == "cannot be scored here: the truth is withheld"
    assert "codabench" in second["missing"][0]["get"]
    assert third["dataset"] == "ytvis2019"
    assert "youtube-vos.org" in third["missing"][0]["get"]
    convnext = next(c for c in record["cases"] if c["variant"] == 2)
    assert convnext["missing"][0] == {
        "what": "weights of variant 2",
        "reason": "were not found",
        "get": convnext["missing"][0]["get"],
    }
    assert "github.com/zwq456/CLIP-VIS" in convnext["missing"][0]["get"]
    assert {n["metric"] for n in convnext["numbers"]} == {"AP", "APn"}  # the abstract states APn, too
    assert not (place / "runs").exists()


def test_what_is_at_hand_is_run_once_and_written_to_a_page(place: Path) -> None:
    arguments = ("--checkpoint", f"1={place / 'tiny.pth'}", "--dataset", "lvvis", "--out", str(place / "page.md"))
    done = reproduce(place, *arguments, "--json")
    assert done.exit_code == 0, done.output  # two videos are not comparable, so nothing lies outside
    record = json.loads(done.stdout)
    first = record["cases"][0]
    assert first["status"] == "ran"
    assert first["comparable"] is False
    assert first["numbers"][0]["inside"] is None
    assert first["numbers"][0]["difference"] == pytest.approx(first["numbers"][0]["obtained"] - 19.5)
    assert re.fullmatch(r"[0-9a-f]{64}", first["checkpoint"]["sha256"])
    assert record["summary"] == {"inside": 0, "outside": 0, "not_comparable": 1, "failed": 0, "not_run": 7}
    page = (place / "page.md").read_text()
    assert "| 1: CLIP-VIS, R50, LVIS | lvvis val | AP | 19.5 | 19.45 to 19.55 |" in page
    assert "| tiny.pth |" in page
    assert "| device | cpu |" in page
    assert "results table, current revision" in page
    for text in (page, done.stdout):
        assert str(place) not in text
    shards = {path: path.stat().st_mtime_ns for path in place.glob("runs/*/predictions/*.parquet")}
    again = reproduce(place, *arguments)
    assert len(shards) == 2
    assert shards == {path: path.stat().st_mtime_ns for path in place.glob("runs/*/predictions/*.parquet")}
    assert "0 of 0 numbers within rounding, 1 not comparable; 7 of 8 cases not run" in again.output


def test_files_are_known_by_content(place: Path, tmp_path: Path) -> None:
    (tmp_path / "junk.pth").write_bytes(b"no weights")
    shutil.copy(place / "tiny.pth", tmp_path)
    done = reproduce(place, "--checkpoints", str(tmp_path), "--dry-run", "--dataset", "lvvis")
    assert done.exit_code == 0, done.output
    assert "junk.pth" in done.stderr
    assert "tiny.pth: has the sizes of no released variant; name it with --checkpoint VARIANT=FILE" in done.stderr
    state = torch.load(place / "tiny.pth")
    key = "sem_seg_head.pixel_decoder.input_proj.0.0.weight"
    layer = "sem_seg_head.predictor.transformer_cross_attention_layers.{}.norm.weight"
    state[key] = torch.zeros(32, 1024, 1, 1)
    torch.save(state | {layer.format(i): torch.zeros(32) for i in range(9)}, tmp_path / "any name.pth")
    torch.save(state | {"backbone.base.conv1.weight": torch.zeros(1)}, tmp_path / "ov2seg.pth")
    done = reproduce(place, "--checkpoints", str(tmp_path), "--dry-run", "--json")
    assert "is not a checkpoint of CLIP-VIS: it has backbone.base.conv1.weight" in done.stderr
    found = json.loads(done.stdout)
    assert {c["variant"] for c in found["cases"] if c["checkpoint"]} == {4}
    shutil.copy(tmp_path / "any name.pth", tmp_path / "other.pth")
    with pytest.raises(Exception, match="are both variant 4"):
        CliRunner().invoke(build(), ["reproduce", "clipvis", "--checkpoints", str(tmp_path)], catch_exceptions=False)


def test_an_error_ends_one_case_only(place: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    given = ("--checkpoint", f"1={tmp_path / 'broken.pth'}", "--dataset", "lvvis", "--json")
    done = reproduce(place, *given)
    assert done.exit_code == 1
    record = json.loads(done.stdout)
    assert [case["status"] for case in record["cases"][:2]] == ["failed", "not run"]
    assert record["summary"]["failed"] == 1
    assert str(tmp_path) not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--checkpoint", "5=x.pth"), "is not VARIANT=FILE; name a variant from 1 to 4"),
        (("--checkpoint", "1=nothing.pth"), "nothing.pth does not exist"),
        (("--checkpoints", "nowhere"), "is not a folder"),
        (("--dataset", "tao"), "has no published numbers of this model; name one or more of burst, lvvis"),
    ],
)
def test_bad_input_is_named(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(Exception, match=re.escape(message)):
        CliRunner().invoke(build(), ["reproduce", "clipvis", *arguments], catch_exceptions=False)


def test_a_model_without_released_weights_is_refused() -> None:
    with pytest.raises(Exception, match="has no released weights with published numbers"):
        CliRunner().invoke(build(), ["reproduce", "oracle"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("ap", "is_inside"), [(0.1949, True), (0.1945, True), (0.1955, True), (0.19449, False), (0.1956, False)]
)
def test_inside_rounding_is_half_of_the_last_digit(ap: float, is_inside: bool) -> None:
    number = number_of(PUBLISHED, {"metrics": {"AP": ap}, "comparable": True})
    assert number.inside is is_inside
    assert number.difference == pytest.approx(100 * ap - 19.5)


def test_numbers_of_earlier_weights_are_recognised() -> None:
    number = number_of(PUBLISHED, {"metrics": {"AP": 0.18812}, "comparable": True})
    assert number.inside is False
    assert number.also.startswith("18.8 of CLIP-VIS (v1 checkpoints) (CLIP-VIS repository README")


def test_ov2seg_has_a_variant_without_weights_and_groups_from_another_paper(tmp_path: Path) -> None:
    done = CliRunner().invoke(build(), ["reproduce", "ov2seg", "--data-root", str(tmp_path), "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    cases = json.loads(done.stdout)["cases"]
    val = next(c for c in cases if (c["variant"], c["dataset"], c["split"]) == (1, "lvvis", "val"))
    assert {n["metric"]: n["published"] for n in val["numbers"]} == {"AP": 14.2, "APb": 17.2, "APn": 11.9}
    assert "GLEE" in val["numbers"][1]["source"]
    swin = next(c for c in cases if c["variant"] == 2)
    assert swin["missing"][0] == {"what": "weights of variant 2", "reason": "were not released", "get": ""}
    assert str(tmp_path) not in done.stdout
