"""Every command that README, docs and help print is run as printed, or says why not and is parsed at least.

They run in a folder that has what they name, small: ``shapes`` of two videos, copies of LV-VIS (which shows shapes) and
BURST with two videos each, a CLIP-VIS and an OV2Seg of few weights, a clip, and run folders of all of them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import documented_commands as documented
import numpy as np
import pytest
import torch
from dataset_copies import FRAMES, HEIGHT, WIDTH, annotation_document, write_burst, write_frames
from documented_commands import Block, Shell
from PIL import Image
from tiny_clipvis import tiny_with_weights

BLOCKS = [block for path in documented.documents() for block in documented.blocks_of(path)]
BLOCKS += documented.blocks_of_help()
RUN = [block for block in BLOCKS if block.runnable]
SKIPPED = [block for block in BLOCKS if set(block.runnable) < set(block.commands)]
FEW = 2
SHORT = 4
"""Videos of each split of ``shapes`` here, and frames of each."""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("shell") / "talk")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, shell: Shell, short_shapes: None, own_environment: None) -> Path:
    """A folder with everything that the commands name."""
    folder = tmp_path_factory.mktemp("prepared")
    write_data(folder)
    write_weights(folder)
    write_clip(folder / "clip.mp4")
    lvvis = "--dataset lvvis --data-root DIR"
    shell.run(
        f"""
        harness run --model oracle --dataset lvvis,burst,shapes --data-root DIR
        harness run --model oracle --dataset shapes --set wrong_label=0.35
        harness run --model clipvis,ov2seg --dataset shapes --protocol lvvis,hota,fixed-ap
        harness run --model clipvis --checkpoint clipvis.pth {lvvis}
        harness run --model ov2seg --checkpoint ov2seg.pth --set text_classifier=fg_bg_5_10_lvvis_ens.npy {lvvis}
        harness export runs/oracle-lvvis-* --format results --out results.json
        harness regress runs/clipvis-shapes-* --baseline gate.json --update
        git init --quiet
        git -c user.name=me -c user.email=me@localhost commit --quiet --allow-empty --message start
        """,
        folder,
    )
    return folder


@pytest.fixture(scope="module")
def place(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder in which the commands of a document, or of a command's help, are run: a copy of its own."""

    @cache
    def place_of(source: str) -> Path:
        folder = tmp_path_factory.mktemp("place") / "here"
        shutil.copytree(prepared, folder)
        return folder

    return place_of


@pytest.fixture(scope="module")
def short_shapes() -> Iterator[None]:
    """``shapes`` with few and short videos."""
    from harness.datasets import shapes

    scenes = shapes.scenes
    shapes._open.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "scenes", lambda split: (replace(s, length=SHORT) for s in islice(scenes(split), FEW)))
        yield
    shapes._open.cache_clear()


@pytest.fixture(scope="module")
def own_environment() -> Iterator[None]:
    """No setting of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "HARNESS_DATA_ROOT", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        patch.setenv("NO_COLOR", "1")
        yield


def write_data(folder: Path) -> None:
    """LV-VIS, BURST and YouTube-VIS below ``DIR``; the first as own data, too; lists of names and of videos."""
    from harness.datasets import shapes

    document = shapes.document("val")
    for video in document["videos"]:
        video.update(length=FRAMES, file_names=video["file_names"][:FRAMES])
    for one in document["annotations"]:
        one.update({key: one[key][:FRAMES] for key in ("segmentations", "areas")}, length=FRAMES)
    document["annotations"] = [one for one in document["annotations"] if any(one["segmentations"])]
    for name in ("DIR/lvvis/val_instances_.json", "instances.json", "val_instances_.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(document))
    for listed, video in zip(document["videos"], shapes.PLUGIN.open(folder, "val").videos, strict=True):
        for index, name in enumerate(listed["file_names"]):
            for path in (folder / "DIR" / name, folder / "DIR/lvvis/val/JPEGImages" / name):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(video.frames[index]).save(path)
    write_burst(folder / "DIR")
    (folder / "DIR/ytvis2019").mkdir()
    (folder / "DIR/ytvis2019/train.json").write_text(json.dumps(annotation_document("ytvis2019")))
    write_frames(folder / "DIR/ytvis2019/train/JPEGImages")
    for year, videos in (("2021", 1), ("2022", 2)):  # 2022 adds videos to those of 2021
        listed = annotation_document("ytvis2021", truth=year == "2022")
        listed["videos"] = listed["videos"][:videos]
        (folder / f"DIR/ytvis{year}").mkdir()
        (folder / f"DIR/ytvis{year}/valid.json").write_text(json.dumps(listed))
        write_frames(folder / f"DIR/ytvis{year}/valid/JPEGImages")
    (folder / "novel.txt").write_text(document["categories"][0]["name"])
    (folder / "ids.txt").write_text("2\n")
    write_frames(folder / "JPEGImages")
    for name in ("v1/0.png", "v1/1.png", "v2/0.png"):
        (folder / "Annotations" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ones((20, 30), np.uint8)).save(folder / "Annotations" / name)
    shutil.copy(documented.ROOT / "examples/experiment.yaml", folder)


def write_weights(folder: Path) -> None:
    """A CLIP-VIS of a recipe, the miniature of OV2Seg as the released files are, and a text classifier for it."""
    from safetensors.torch import load_file

    from harness.baselines.ov2seg.config import Ov2SegConfig
    from harness.baselines.ov2seg.plugin import with_text_tower
    from harness.baselines.ov2seg.text_classifier import text_classifier
    from harness.datasets import shapes
    from harness.models import miniatures

    torch.save(tiny_with_weights(folder).state_dict(), folder / "clipvis.pth")
    shipped = miniatures.weights("ov2seg", miniatures.DATASET)
    assert shipped is not None
    for name in ("ov2seg.pth", "ov2seg_r50.pth"):
        torch.save({"model": load_file(shipped)}, folder / name)
    vocabulary = shapes.PLUGIN.open(folder, "val").vocabulary
    tower = with_text_tower(Ov2SegConfig(), shipped)
    found = text_classifier(tower, vocabulary, "shapes", 64, torch.device("cpu"), folder / "text")
    np.save(folder / "fg_bg_5_10_lvvis_ens.npy", found.classifier.weights.numpy())


def write_clip(path: Path) -> None:
    from harness.video_file import write_video

    write_video(path, (np.full((2 * HEIGHT, 2 * WIDTH, 3), 40 * f, np.uint8) for f in range(FRAMES)), 5.0)


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.source)
def test_a_block_of_commands_runs(
    block: Block, shell: Shell, place: Callable[[str], Path], request: pytest.FixtureRequest
) -> None:
    folder = place(block.source.partition(":")[0])

    def runs(start: str) -> list[str]:
        return sorted(path.name for path in (folder / "runs").glob(f"{start}*"))

    if any("s3://" in command for command in block.runnable):
        request.getfixturevalue("s3")
    shell.run(documented.with_runs(block.runnable, runs), folder)


@pytest.mark.parametrize("block", SKIPPED, ids=lambda block: block.source)
def test_what_is_not_run_is_parsed(block: Block, tmp_path: Path) -> None:
    commands = tuple(command for command in block.commands if not block.is_run(command))
    for arguments in documented.arguments_of(commands, tmp_path):
        check(arguments)


def check(arguments: list[str]) -> None:
    """Look over a command that is not run: the options of ours, and the files and extras of others."""
    match arguments:
        case ["harness", *rest]:
            documented.parse(rest)
        case ["torchrun", *options]:
            documented.parse(options[options.index("harness") + 1 :])
        case ["sbatch", *options]:
            script = next(i for i, option in enumerate(options) if option.endswith(".sbatch"))
            assert (documented.ROOT / options[script]).is_file()
            documented.parse(["run", *options[script + 1 :]])
        case ["pytest", *options]:
            assert all((documented.ROOT / option).exists() for option in options if not option.startswith("-"))
        case ["python", file, *_]:
            assert (documented.ROOT / file).exists()
        case ["pip", "install" | "download", *options]:
            project: dict[str, Any] = tomllib.loads((documented.ROOT / "pyproject.toml").read_text())["project"]
            extras = [o.partition("[")[2].rstrip("]") for o in options if o.startswith((".[", f"{project['name']}["))]
            assert set(extras) <= set(project["optional-dependencies"])
        case ["ruff", "check" | "format", *_] | ["mypy", "-p", "harness"] | ["pre-commit", "install"]:
            pass
        case ["sphinx-build", *_, source, _]:
            assert (documented.ROOT / source / "conf.py").is_file()
        case ["mlflow", "ui", "--backend-store-uri", uri]:
            assert uri == "sqlite:///runs/.mlflow/mlflow.db"  # see test_the_store_is_where_readme_says
        case ["docker" | "apptainer", "run", *options]:
            image = next(i for i, option in enumerate(options) if option in ("harness", "harness.sif"))
            documented.parse(options[image + 1 :])
        case [program, *_]:
            assert program in ("gh", "jq", "git", "docker", "apptainer")


def test_the_store_is_where_readme_says(prepared: Path) -> None:
    assert (prepared / "runs" / ".mlflow" / "mlflow.db").read_bytes().startswith(b"SQLite format 3")
    assert all((path / "metrics.json").is_file() for path in prepared.glob("runs/[!.]*"))


def test_every_reason_not_to_run_something_is_about_something() -> None:
    for block in BLOCKS:
        if not block.source.endswith("--help"):
            idle = [text for text, _ in block.skipped if not any(text in command for command in block.commands)]
            assert not idle, f"{block.source}: no command has {idle}"


@pytest.mark.parametrize("path", documented.documents(), ids=lambda path: path.name)
def test_no_command_is_overlooked_and_those_in_sentences_exist(path: Path) -> None:
    assert documented.strange_lines(path) == []
    for span in documented.spans_of(path):
        documented.check_span(span)


def test_a_command_that_fails_or_is_unknown_fails_here(shell: Shell, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nothing: does not exist"):
        shell.run("harness datasets list >list.txt\nharness table nothing", tmp_path)
    assert "shapes" in (tmp_path / "list.txt").read_text()
    with pytest.raises(AssertionError, match="not known"):
        documented.check_span("harness run --modle clipvis")
    with pytest.raises(AssertionError, match="no such command"):
        documented.check_span("harness runs")
    (arguments,) = documented.arguments_of(("OMP_NUM_THREADS=1 harness run --modle 'a b'  # why",), tmp_path)
    assert arguments == ["harness", "run", "--modle", "a b"]
    with pytest.raises(Exception, match="No such option"):
        documented.parse(arguments[1:])


def test_the_harness_is_a_module_too() -> None:
    done = subprocess.run(
        ["python", "-m", "harness", "datasets", "list", "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["datasets"]
