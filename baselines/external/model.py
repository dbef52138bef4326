"""A command as a model: it runs once per chunk of videos; results of chunks are kept until their tracks are stored.

If a chunk fails, the video at fault is unknown. When the engine retries the first video, the command therefore gets it
alone, and later chunks are half as long until one succeeds.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from harness.baselines.external.config import ExternalConfig
from harness.baselines.external.job import (
    FACTS_FILE,
    JOB_FILE,
    RESULTS_FILE,
    Facts,
    find_done,
    frame_files,
    job_folder,
    mark_done,
    read_facts,
    read_tracks,
    write_job,
)
from harness.baselines.external.process import Ending, run_command
from harness.errors import UserError
from harness.types import LoadContext, LoadedWeights, Track, Video, Vocabulary

log = logging.getLogger(__name__)

GIVE_UP_AFTER = 3
"""After this many videos in a row fail, each alone, the command itself is at fault and is not started again."""


class ExternalModel:
    """Finds tracks by running a command (`harness.types.BatchModel`); ``name`` is for messages."""

    def __init__(self, config: ExternalConfig, context: LoadContext, name: str = "external") -> None:
        self.config, self.context, self.name = config, context, name
        self._directory = config.working_directory.resolve() if config.working_directory else None
        _refuse_missing(config, self._directory, _environment(config), name)
        self._scratch: Path | None = None
        self._expected: dict[int, Video] = {}
        self._waiting: dict[Path, dict[int, Video]] = {}
        """Finished jobs by folder, each with those of its videos that have not been asked for yet."""
        self._read: dict[int, list[Track]] = {}
        """Tracks of the finished job that was read last."""
        self._facts = Facts()
        self._asked = 0
        self._vocabulary = ""
        self._chunk = config.chunk
        self._failed: set[int] = set()
        self._failed_in_a_row: dict[int, UserError] = {}

    def prepare(self, videos: Sequence[Video], scratch: Path) -> None:
        """Record the list of videos, and the finished jobs of an earlier session in ``scratch``."""
        self._scratch = scratch
        self._expected = {video.id: video for video in videos}
        for folder, done in find_done(scratch).items():
            wanted = {v: self._expected[v] for v in done.videos if v in self._expected}
            if any(frame_files(video) != done.videos[v] for v, video in wanted.items()):
                log.info("%s: results of %s are from other frames and are computed again", self.name, folder.name)
                continue
            self._vocabulary = done.vocabulary
            self._waiting[folder] = wanted
        count = sum(map(len, self._waiting.values()))
        if count:
            log.info("%s: results of %s videos exist from an earlier session", self.name, count)

    def predict(self, video: Video, vocabulary: Vocabulary) -> list[Track]:
        """Return the tracks of ``video`` from the command's results; not started for an empty vocabulary.

        Raises `UserError` with the command's last lines if it fails, takes too long, or writes invalid results.
        """
        if not vocabulary.categories:
            return []
        self._asked = len(vocabulary.categories)
        if vocabulary.digest != self._vocabulary:
            self._waiting.clear()
            self._vocabulary = vocabulary.digest
        tracks = self._take(video, vocabulary)
        if tracks is None:
            self._run(self._next_chunk(video), vocabulary)
            tracks = self._take(video, vocabulary)
        assert tracks is not None  # a job that ends well has an entry for each of its videos
        return tracks

    @property
    def loaded_weights(self) -> LoadedWeights | None:
        """The loaded weights in ``facts.json``, ``None`` if there are none."""
        return self._facts.loaded_weights

    def facts(self) -> dict[str, str]:
        """The facts on the vocabulary in ``facts.json``, see `harness.types.Model`."""
        note = self._facts.words or f"{FACTS_FILE} of the command does not say whether it has used them"
        return {"words": f"{self._asked} in the job; {note}"}

    def _take(self, video: Video, vocabulary: Vocabulary) -> list[Track] | None:
        """Tracks of ``video`` from a finished job, if there is one that has them."""
        folder = next((f for f, videos in self._waiting.items() if videos.get(video.id) is video), None)
        if folder is None:
            return None
        if video.id not in self._read:
            try:
                self._facts = read_facts(folder)
                self._read = read_tracks(folder, list(self._waiting[folder].values()), vocabulary)
            except UserError as error:
                log.warning("%s: stored results cannot be used and are computed again: %s", self.name, error)
                del self._waiting[folder]
                return None
        del self._waiting[folder][video.id]
        return self._read.pop(video.id)

    def _next_chunk(self, video: Video) -> list[Video]:
        """``video`` and the next ones, as many as one job takes."""
        asks_by_video = self.context.dataset.annotations.pairs is not None
        if asks_by_video or video.id in self._failed or self._expected.get(video.id) is not video:
            return [video]
        known = {v for videos in self._waiting.values() for v in videos}
        order = list(self._expected)
        following = order[order.index(video.id) :]
        return [self._expected[v] for v in following if v not in known][: self._chunk]

    def _run(self, videos: list[Video], vocabulary: Vocabulary) -> None:
        """Run the command on ``videos`` and read its results."""
        failed = self._failed_in_a_row
        if len(failed) >= GIVE_UP_AFTER and videos[0].id not in failed:
            what = f"the command failed on {len(failed)} videos in a row and is not started again"
            raise UserError(self.name, f"{what}; last: {list(failed.values())[-1]}")
        self._forget_delivered()
        folder = job_folder(self._folder(), videos)
        asked = write_job(folder, videos, vocabulary, self.context)
        try:
            tracks = self._results(folder, asked, vocabulary)
        except UserError as error:
            self._failed.add(asked[0].id)
            if len(asked) > 1:
                self._chunk = len(asked) // 2
            else:
                failed[asked[0].id] = error
            raise
        mark_done(folder, asked, vocabulary)
        failed.clear()
        self._waiting[folder] = {v.id: v for v in asked}
        self._read = tracks
        self._chunk = min(self.config.chunk, 2 * self._chunk)

    def _results(self, folder: Path, videos: list[Video], vocabulary: Vocabulary) -> dict[int, list[Track]]:
        """Start the command on a written job and read its results."""
        where = f"{self.name}, {_named(videos)}"
        job = folder.resolve() / JOB_FILE
        command = [word.replace("{job}", str(job)).replace("{folder}", str(job.parent)) for word in self.config.command]
        if not any("{job}" in word for word in self.config.command):
            command.append(str(job))
        log.info("%s: %s", where, command)
        timeout_s = self.config.timeout_s
        ending = run_command(
            command, self._directory, _environment(self.config), timeout_s, lambda line: log.info("| %s", line)
        )
        log.info("%s: %s after %.1f s", where, _how(ending), ending.seconds)
        if ending.code is None:
            what = f"the command was stopped after {timeout_s:g} s; {_said(ending)}"
            raise UserError(where, what, "raise timeout_s or lower chunk")
        if ending.code:
            what = f"the command ended with {_how(ending)} after {ending.seconds:.1f} s; {_said(ending)}"
            raise UserError(where, what, f"the run's log has all of it, the job is {job}")
        if not (folder / RESULTS_FILE).is_file():
            what = f"the command succeeded but wrote no {RESULTS_FILE}; {_said(ending)}"
            raise UserError(where, what, 'write a list of tracks to the path that the job gives as "results"')
        try:
            self._facts = read_facts(folder)
            return read_tracks(folder, videos, vocabulary)
        except UserError as error:
            raise UserError(where, f"the command's results are refused: {error}", _said(ending)) from error

    def _forget_delivered(self) -> None:
        """Remove jobs whose videos were all predicted: the engine asks for the next video only after storing them."""
        for folder in [folder for folder, videos in self._waiting.items() if not videos]:
            del self._waiting[folder]
            shutil.rmtree(folder, ignore_errors=True)

    def _folder(self) -> Path:
        """The folder of jobs: in the run's scratch folder, or a temporary one that is deleted with this model."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="harness-jobs-"))
            weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        return self._scratch


def _environment(config: ExternalConfig) -> dict[str, str]:
    """The environment of the command: the harness's with the configured changes, and unbuffered output of Python."""
    changed = {"PYTHONUNBUFFERED": "1", **os.environ, **config.environment}
    return {name: value for name, value in changed.items() if value is not None}


def _refuse_missing(config: ExternalConfig, directory: Path | None, environment: dict[str, str], name: str) -> None:
    """Raise `UserError` for a missing program or folder, before any video is run."""
    if directory is not None and not directory.is_dir():
        raise UserError(f"{name}, working_directory", f"{directory} is not a folder", "name the code's folder")
    program = config.command[0]
    place = str((directory or Path.cwd()) / program) if "/" in program else program
    if "{" not in program and shutil.which(place, path=environment.get("PATH")) is None:
        what = f'"{place}" is not an executable program'
        raise UserError(f"{name}, command", what, "give its full path, and make it executable")


def _named(videos: list[Video]) -> str:
    return f"video {videos[0].id}" if len(videos) == 1 else f"videos {videos[0].id} to {videos[-1].id}"


def _how(ending: Ending) -> str:
    if ending.code is None:
        return "stopped"
    names = {128 + s.value: s.name for s in signal.Signals}
    of_signal = f" ({names[ending.code]})" if ending.code in names else ""
    return f"exit code {ending.code}{of_signal}"


def _said(ending: Ending) -> str:
    if not ending.last_lines:
        return "it printed nothing"
    return f"its last lines: {' | '.join(ending.last_lines)}"
