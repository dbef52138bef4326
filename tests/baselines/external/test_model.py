"""Any command as a model: jobs, chunks, resuming, and what is said when the command does not do its part.

Tests of `baselines/external/config.py`, `baselines/external/plugin.py` and `baselines/external/watch.py`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from small_runs import HEIGHT, LENGTH, WIDTH, make_dataset, make_video

from harness.baselines.external.config import ExternalConfig
from harness.baselines.external.job import JOB_FORMAT
from harness.baselines.external.model import GIVE_UP_AFTER, ExternalModel
from harness.baselines.external.plugin import PLUGIN, ExternalPlugin
from harness.config import read_config
from harness.errors import UserError
from harness.image_files import ImageFrames
from harness.one_video import try_video
from harness.runner import SCRATCH, Run, RunOutcome, execute
from harness.testing import check_model
from harness.types import Category, Dataset, LoadContext, Video, Vocabulary

COMMAND = """
import json, os, subprocess, sys, time
if sys.argv[1] == "wait":
    time.sleep(600)
job = json.load(open(sys.argv[-1]))
ids = [v["id"] for v in job["videos"]]
open("started.txt", "a").write(f"{ids}\\n")
results = []
for video in job["videos"]:
    print("video", video["id"], flush=True)
    if os.path.exists(f"crash-{video['id']}"):
        print("\\x1b[31mout of luck\\x1b[0m", file=sys.stderr)
        sys.exit(3)
    if os.path.exists(f"die-{video['id']}"):
        os.kill(os.getpid(), 9)
    if os.path.exists(f"hang-{video['id']}"):
        time.sleep(600)
    h, w, n = video["height"], video["width"], len(video["frames"])
    half = {"size": [h, w], "counts": [0, h * (w // 2), h * (w - w // 2)]}
    results.append({"video_id": video["id"], "category_id": job["vocabulary"][0]["id"], "score": 0.5,
                    "segmentations": [half] * (n - 1) + [None]})
if os.path.exists("edit.py"):
    exec(open("edit.py").read())
json.dump(results, open(job["results"], "w"))
"""
CLI = (sys.executable, "-c", "from harness.cli.main import main; main()")

needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The folder of somebody's code; files that are put there make it fail."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "segment.py").write_text(COMMAND)
    return folder


def started(code: Path) -> list[list[int]]:
    """The videos of every job that was started, in order."""
    return [json.loads(line) for line in (code / "started.txt").read_text().splitlines()]


def config_of(code: Path, **options: Any) -> ExternalConfig:
    given = {"command": [sys.executable, "segment.py"], "working_directory": code, "chunk": 3}
    return ExternalConfig.model_validate(given | options)


def run_of(tmp_path: Path, code: Path, dataset: Dataset | None = None, **options: Any) -> Run:
    return Run(PLUGIN, config_of(code, **options), dataset or make_dataset(4), tmp_path / "runs")


def fail(outcome: RunOutcome) -> str:
    """The error of the only video that failed."""
    (failure,) = outcome.record["videos"]["failed"]
    return str(failure["error"])


def cli(cwd: Path, code: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(cli_arguments(code, *more), cwd=cwd, capture_output=True, text=True, check=False)


def cli_arguments(code: Path, *more: str) -> list[str]:
    settings = (f"command={sys.executable} segment.py", f"working_directory={code}", "chunk=3")
    given = [word for setting in settings for word in ("--set", setting)]
    return [*CLI, "run", "--model", "external", "--dataset", "shapes", "--limit", "12", "--no-mlflow", *given, *more]


def test_a_command_that_crashes_at_video_7_of_12_is_resumed_and_completed(tmp_path: Path, code: Path) -> None:
    (code / "crash-7").touch()
    cut = cli(tmp_path, code)
    assert cut.returncode == 2
    assert "1 of 12 videos failed" in cut.stderr
    assert "exit code 3" in cut.stderr
    assert "out of luck" in cut.stderr
    assert started(code) == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [7], [8], [9, 10], [11, 12]]
    (code / "crash-7").unlink()
    (code / "started.txt").unlink()
    done = cli(tmp_path, code, "--json")
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["runs"]
    assert record["complete"] is True
    assert record["videos"]["done"] == 12
    assert started(code) == [[7]]
    folder = tmp_path / record["folder"]
    assert not (folder / SCRATCH).exists()
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    whole = cli(quiet, code, "--json")
    assert json.loads(whole.stdout)["runs"] == [record]
    for shard in (folder / "predictions").iterdir():
        assert shard.read_bytes() == (quiet / record["folder"] / "predictions" / shard.name).read_bytes()


@needs_proc
def test_a_killed_run_leaves_no_command_behind_and_does_no_finished_chunk_again(tmp_path: Path, code: Path) -> None:
    (code / "hang-7").touch()
    arguments = cli_arguments(code)
    with subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: (code / "started.txt").exists() and len(started(code)) == 3)
        (command,) = commands(code)
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: not commands(code))
    assert command
    (code / "hang-7").unlink()
    (code / "started.txt").unlink()
    done = cli(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert started(code) == [[7, 8, 9], [10, 11, 12]]


def commands(code: Path) -> list[str]:
    """Process ids of the commands that run in ``code``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[1:2] == [b"segment.py"] and (process / "cwd").resolve() == code.resolve():
                found.append(process.name)
        except OSError:
            continue  # it has ended meanwhile, or is somebody else's
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_chunk_whose_tracks_were_not_stored_yet_is_not_done_again(tmp_path: Path, code: Path) -> None:
    run = run_of(tmp_path, code)

    def interrupt(event: Any) -> None:
        if event.video_id == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, on_event=interrupt)
    assert run.store.done() == {1}
    outcome = execute(run_of(tmp_path, code))
    assert outcome.exit_code == 0
    assert started(code) == [[1, 2, 3], [4]]
    assert "results of 2 videos exist from an earlier session" in (run.folder / "run.log").read_text()


@pytest.mark.parametrize(("name", "text"), [("results.json", "[{"), ("done.json", "{")])
def test_kept_results_that_are_damaged_are_made_anew(tmp_path: Path, code: Path, name: str, text: str) -> None:
    run = run_of(tmp_path, code)

    def interrupt(event: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, on_event=interrupt)
    (run.folder / SCRATCH / "1_to_3" / name).write_text(text)
    assert execute(run_of(tmp_path, code)).exit_code == 0
    assert started(code) == [[1, 2, 3], [2, 3, 4]]


def test_kept_results_of_other_frames_are_made_anew(tmp_path: Path, code: Path) -> None:
    """A session that was killed before it stored anything leaves a finished job; the next one has other frames."""

    def interrupt(event: Any) -> None:
        raise KeyboardInterrupt

    run = run_of(tmp_path, code)
    with pytest.raises(KeyboardInterrupt):
        execute(run, on_event=interrupt)
    run.store.path(1).unlink()
    again = run_of(tmp_path, code)
    shown = tuple(replace(v, frames=Gradient()) if v.id == 2 else v for v in again.dataset.videos)
    assert execute(replace(again, dataset=replace(again.dataset, videos=shown))).exit_code == 0
    assert started(code) == [[1, 2, 3], [1, 2, 3], [4]]
    assert "results of 1_to_3 are from other frames" in (run.folder / "run.log").read_text()


def test_how_the_work_is_cut_up_is_no_part_of_the_run(tmp_path: Path, code: Path) -> None:
    one = run_of(tmp_path, code)
    assert one.folder == run_of(tmp_path, code, chunk=1, timeout_s=5).folder
    assert one.folder != run_of(tmp_path, code, revision="2").folder


def test_the_job_tells_all_that_a_command_needs(tmp_path: Path, code: Path) -> None:
    (code / "edit.py").write_text("open('job.json', 'w').write(open(sys.argv[-1]).read())")
    frames = tmp_path / "frames"
    (frames / "a").mkdir(parents=True)
    names = [f"a/{i}.png" for i in range(2)]
    for name in names:
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(frames / name)
    video = Video(5, "a", HEIGHT, WIDTH, ImageFrames(frames, names, HEIGHT, WIDTH, "5"))
    weights = tmp_path / "weights.pt"
    weights.touch()
    context = LoadContext(make_dataset(), "cuda:1", "fp16", weights, seed=4)
    model = ExternalModel(config_of(code), context)
    (track,) = model.predict(video, Vocabulary((Category(9, "cat", ("kitty",), ("base",)),)))
    assert (track.video_id, track.category_id, track.score) == (5, 9, 0.5)
    assert track.masks[0] is not None
    assert track.masks[1] is None
    job = json.loads((code / "job.json").read_text())
    results = job.pop("results")
    assert job == {
        "format": JOB_FORMAT,
        "videos": [
            {"id": 5, "name": "a", "height": HEIGHT, "width": WIDTH, "frames": [str(frames / name) for name in names]}
        ],
        "vocabulary": [{"id": 9, "name": "cat", "synonyms": ["kitty"]}],
        "checkpoint": str(weights),
        "device": "cuda:1",
        "precision": "fp16",
        "seed": 4,
    }
    assert Path(results).is_absolute()


class Gradient:
    """Frames that are no files, each pixel of its own colour."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, frame_index: int, /) -> np.ndarray:
        return np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3) + np.uint8(frame_index)


def test_frames_that_are_no_files_are_written_without_loss(code: Path) -> None:
    keep = "import shutil; [shutil.copy(f, '.') for f in job['videos'][0]['frames']]"
    (code / "edit.py").write_text(keep)
    video = Video(1, "generated", HEIGHT, WIDTH, Gradient())
    model = ExternalModel(config_of(code), LoadContext(make_dataset()))
    model.predict(video, make_dataset().vocabulary)
    for index, path in enumerate(sorted(code.glob("*.png"))):
        np.testing.assert_array_equal(np.array(Image.open(path)), video.frames[index])
    assert len(list(code.glob("*.png"))) == LENGTH


def test_jobs_outside_of_a_run_leave_nothing(code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = ExternalModel(config_of(code), LoadContext(make_dataset()))
    for _ in range(2):
        assert len(model.predict(make_video(1), make_dataset().vocabulary)) == 1
    assert len(list(tmp_path.glob("harness-jobs-*"))) == 1
    del model
    assert not list(tmp_path.glob("harness-jobs-*"))


def test_without_categories_the_command_is_not_started(code: Path) -> None:
    model = ExternalModel(config_of(code), LoadContext(make_dataset()))
    assert model.predict(make_video(1), Vocabulary(())) == []
    assert not (code / "started.txt").exists()


def test_another_vocabulary_is_another_job(tmp_path: Path, code: Path) -> None:
    model, dataset = ExternalModel(config_of(code), LoadContext(make_dataset())), make_dataset()
    model.prepare(dataset.videos, tmp_path / "scratch")
    model.predict(dataset.videos[0], dataset.vocabulary)
    (track,) = model.predict(dataset.videos[1], Vocabulary(dataset.categories[1:]))
    assert track.category_id == 2
    assert started(code) == [[1, 2, 3], [2, 3, 4]]


def test_what_the_command_says_is_in_the_runs_log(tmp_path: Path, code: Path) -> None:
    (code / "edit.py").write_text("print('\\r10 %\\r\\x1b[1m100 %\\x1b[0m done\\x07')")
    run = run_of(tmp_path, code)
    assert execute(run).exit_code == 0
    log = (run.folder / "run.log").read_text()
    assert "| video 3\n" in log
    assert "| 100 % done\n" in log
    assert "external, videos 1 to 3: exit code 0 after" in log


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("crash-2", "external, video 2: the command ended with exit code 3 after"),
        ("crash-2", "its last lines: video 2 | out of luck"),
        ("die-2", "exit code 137 (SIGKILL)"),
    ],
)
def test_a_crash_is_told_with_the_last_lines(tmp_path: Path, code: Path, flag: str, says: str) -> None:
    (code / flag).touch()
    outcome = execute(run_of(tmp_path, code))
    assert outcome.exit_code == 2
    assert outcome.record["videos"]["done"] == 3
    assert says in fail(outcome)


@needs_proc
def test_a_command_may_tell_of_its_weights_and_words(tmp_path: Path, code: Path) -> None:
    run = run_of(tmp_path, code)
    silent = execute(run)
    assert silent.record["loaded_weights"] is None
    (code / "edit.py").write_text(
        "facts = {'weights': {'needed': 4, 'loaded': 3, 'unused': ['a%d' % i for i in range(12)]}}"
        "\nfacts['words'] = '2 prompts'"
        "\njson.dump(facts, open(os.path.join(os.path.dirname(job['results']), 'facts.json'), 'w'))"
    )
    told = try_video(run)["facts"]
    assert told["weights"].startswith("3 of 4 tensors loaded (75 %); 12 of the checkpoint are unused (a0, a1, a2, ...)")
    assert told["words"] == f"{len(run.dataset.categories)} in the job; 2 prompts"
    recorded = execute(run, fresh=True).record["loaded_weights"]
    assert (recorded["needed"], recorded["loaded"], recorded["unused"]) == (4, 3, 12)
    assert recorded["unused_names"] == [f"a{i}" for i in range(10)]
    again = execute(run)  # nothing is run
    assert again.record["loaded_weights"] == recorded
    (code / "edit.py").write_text("open(os.path.join(os.path.dirname(job['results']), 'facts.json'), 'w').write('[1]')")
    with pytest.raises(UserError, match=r"facts.json: cannot be read: .*; write \{"):
        try_video(run)


def test_a_command_that_takes_too_long_is_stopped(tmp_path: Path, code: Path) -> None:
    (code / "hang-2").touch()
    outcome = execute(run_of(tmp_path, code, chunk=1, timeout_s=1))
    assert fail(outcome).startswith("external, video 2: the command was stopped after 1 s; its last lines: video 2")
    assert not commands(code)


BAD_OUTPUTS = {
    "results[0]['video_id'] = 77": "record 0: video 77 is not in the job",
    "results[0]['category_id'] = 5": "record 0: category 5 is not in the vocabulary",
    "results[0]['score'] = float('nan')": "record 0",
    "results[0]['segmentations'].pop()": "2 masks for 3 frames",
    "results[0]['segmentations'][1] = {'size': [5, 5], 'counts': [25]}": "frame 1: mask is 5x5, the video 12x16",
    "results[0]['segmentations'][1] = [[1, 1, 5, 1, 5, 5]]": "record 0, frame 1: mask is not a run-length encoding",
    "results[0]['segmentations'][1] = {'size': [12, 16], 'counts': 'zzz'}": "counts are not a COCO run-length encoding",
    "del results[0]['segmentations']": "segmentations",
    "results = {'tracks': results}": 'is an object, with a list under "tracks"',
    "job['results'] = 'elsewhere.json'": "wrote no results.json",
    "open(job['results'], 'w').write('[{'); sys.exit()": "the file ends inside it",
}


@pytest.mark.parametrize("edit", BAD_OUTPUTS)
def test_bad_output_is_told_with_the_record_and_the_last_lines(tmp_path: Path, code: Path, edit: str) -> None:
    (code / "edit.py").write_text(f"if ids == [1]:\n    {edit}")
    outcome = execute(run_of(tmp_path, code, chunk=1))
    assert outcome.exit_code == 2
    assert outcome.record["videos"]["done"] == 3
    assert BAD_OUTPUTS[edit] in fail(outcome)
    assert "its last lines: video 1" in fail(outcome)


def test_a_video_without_its_frames_fails_alone(tmp_path: Path, code: Path) -> None:
    dataset = make_dataset()
    broken = Video(2, "2", HEIGHT, WIDTH, ImageFrames(tmp_path, ["gone.png"], HEIGHT, WIDTH))
    videos = (dataset.videos[0], broken, *dataset.videos[2:])
    run = run_of(tmp_path, code, Dataset("small", "val", dataset.categories, videos, "lvvis", dataset.annotations))
    outcome = execute(run)
    assert "frame 0): frame is missing" in fail(outcome)
    assert started(code) == [[1], [3, 4]]


def test_a_command_that_always_fails_is_soon_left_alone(tmp_path: Path, code: Path) -> None:
    (code / "edit.py").write_text("sys.exit('no GPU')")
    outcome = execute(run_of(tmp_path, code, make_dataset(12), chunk=1))
    assert len(started(code)) == 2 * GIVE_UP_AFTER
    errors = [f["error"] for f in outcome.record["videos"]["failed"]]
    assert len(errors) == 12
    assert "failed on 3 videos in a row and is not started again" in errors[-1]
    assert "no GPU" in errors[-1]


def test_the_environment_is_added_to_and_taken_from(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKEN", "1")
    monkeypatch.setenv("INHERITED", "1")
    (code / "edit.py").write_text("json.dump(dict(os.environ), open('environment.json', 'w'))")
    config = config_of(code, environment={"ADDED": "2", "TAKEN": None})
    ExternalModel(config, LoadContext(make_dataset())).predict(make_video(1), make_dataset().vocabulary)
    seen = json.loads((code / "environment.json").read_text())
    assert (seen["ADDED"], seen["INHERITED"], "TAKEN" in seen) == ("2", "1", False)


def test_numbers_in_settings_are_the_texts_that_were_written(code: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"command: [{sys.executable}, segment.py, --size, 010]\nenvironment: {{LEVEL: 1.50}}\n")
    settings = ["environment.OMP_NUM_THREADS=1", "environment.MODE=on", "revision=1.10", "environment.GONE=null"]
    read = read_config(ExternalConfig, file, settings, "external")
    assert read.command == (sys.executable, "segment.py", "--size", "010")
    assert read.environment == {"LEVEL": "1.50", "OMP_NUM_THREADS": "1", "MODE": "on", "GONE": None}
    assert read.revision == "1.10"


def test_the_command_may_use_all_cores(tmp_path: Path, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (code / "edit.py").write_text("json.dump(dict(os.environ), open('environment.json', 'w'))")
    execute(run_of(tmp_path, code))
    assert "OMP_NUM_THREADS" not in json.loads((code / "environment.json").read_text())


def test_the_job_file_stands_where_the_command_wants_it(code: Path) -> None:
    words = [sys.executable, "segment.py", "--folder={folder}", "{job}"]
    (code / "edit.py").write_text("open('words.txt', 'w').write(' '.join(sys.argv[1:]))")
    model = ExternalModel(config_of(code, command=words), LoadContext(make_dataset()))
    model.predict(make_video(1), make_dataset().vocabulary)
    folder, job = (code / "words.txt").read_text().split()
    assert f"{folder.removeprefix('--folder=')}/job.json" == job


@needs_proc
def test_what_the_command_leaves_running_is_ended(code: Path) -> None:
    (code / "edit.py").write_text("subprocess.Popen([sys.executable, 'segment.py', 'wait'])")
    model = ExternalModel(config_of(code), LoadContext(make_dataset()))
    assert len(model.predict(make_video(1), make_dataset().vocabulary)) == 1
    assert not commands(code)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"command": "no-such-program --fast"}, '"no-such-program" is not an executable program'),
        ({"command": "./segment.py"}, "segment.py\" is not an executable program"),
        ({"working_directory": "/no/such/folder"}, "/no/such/folder is not a folder"),
    ],
)  # fmt: skip
def test_what_cannot_start_is_refused_before_any_video(code: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        PLUGIN.load(config_of(code, **options), LoadContext(make_dataset()))


def test_a_command_line_is_split_without_a_shell() -> None:
    config = ExternalConfig.model_validate({"command": "python run.py --words 'a b' $HOME; ls"})
    assert config.command == ("python", "run.py", "--words", "a b", "$HOME;", "ls")


@pytest.mark.parametrize("wrong", [{}, {"command": ""}, {"command": "'open"}, {"command": "a", "chunk": 0},
                                   {"command": "a", "timeout_s": 0}, {"command": "a", "chunks": 2}])  # fmt: skip
def test_the_configuration_is_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExternalConfig.model_validate(wrong)


def test_it_keeps_the_contract(code: Path) -> None:
    config = {"command": [sys.executable, "segment.py"], "working_directory": code}
    assert check_model("external", config, dataset=make_dataset()).broken == ()


def test_a_package_can_give_a_command_its_own_name(tmp_path: Path, code: Path) -> None:
    class Wrapped(ExternalConfig):
        command: tuple[str, ...] = (sys.executable, str(code / "segment.py"))

    plugin = ExternalPlugin("theirs", "7", "Somebody's method", Wrapped)
    run = Run(plugin, Wrapped(working_directory=code), make_dataset(), tmp_path / "runs")
    assert execute(run).exit_code == 0
    assert run.folder.name.startswith("theirs-small-val-")
