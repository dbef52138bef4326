"""Model plugins that other processes can load, and that do to them what a test wants."""

from __future__ import annotations

import builtins
import ctypes
import os
import resource
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from small_runs import truth_of

from harness.errors import UserError
from harness.types import LoadContext, Track, Video, Vocabulary

cuda_is_in_use = False
"""Whether a test pretends that this process has used CUDA, which no forked process could then do."""


class FaultyConfig(BaseModel):
    """By video: the signal it sends to its own process, whether it raises, which exception, how long it takes.

    With ``hogs`` it fills the memory that its process may have, which is then little; with ``group`` that is what this
    cgroup may have, which the process joins.

    ``prints`` is what it prints in three ways with every video: Python's, the system's and C's.
    With ``folder`` a fault lasts for one attempt: what was done is marked by a file there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    signals: dict[int, int] = {}
    errors: list[int] = []
    hogs: list[int] = []
    group: Path | None = None
    seconds: float = 0
    raises: dict[int, str] = {}
    prints: str = ""
    folder: Path | None = None
    load: str = ""
    score: float = 0.5


class FaultyModel:
    """Finds the truth of the small dataset, unless its configuration says otherwise for the video."""

    def __init__(self, config: FaultyConfig) -> None:
        self.config = config

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
        """Yield one track."""
        time.sleep(self.config.seconds)
        if self.config.prints:
            print_everywhere(self.config.prints)
        if video.id in self.config.raises:
            raise getattr(builtins, self.config.raises[video.id])(0)
        if video.id in self.config.hogs and self.config.group is not None:
            fill_memory_of(self.config.group)
        elif video.id in self.config.hogs:
            fill_memory()
        if self._is_faulty(video):
            if video.id in self.config.signals:
                os.kill(os.getpid(), self.config.signals[video.id])
                time.sleep(60)
            if video.id in self.config.errors:
                raise RuntimeError(f"no luck with {video.id} in process {os.getpid() > 0}")
        masks = truth_of(video.id) if len(video.frames) == 3 else (None,) * len(video.frames)
        yield Track(video.id, vocabulary.categories[0].id, self.config.score, masks)

    def _is_faulty(self, video: Video) -> bool:
        if self.config.folder is None or video.id not in [*self.config.signals, *self.config.errors]:
            return True
        try:
            (self.config.folder / f"{video.id}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def fill_memory(megabytes: int = 64) -> None:
    """Let this process have no more than this much memory in addition, and take it."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
    taken = []
    while True:
        taken.append(bytearray(1 << 20))


def fill_memory_of(group: Path, most: int = 1024) -> None:
    """Join a cgroup and take memory, at most ``most`` megabytes: the kernel ends the process before that."""
    (group / "cgroup.procs").write_text(f"{os.getpid()}")
    taken = [b"1" * (1 << 20) for _ in range(most)]
    raise AssertionError(f"{len(taken)} MB were there to be had")


def print_everywhere(text: str) -> None:
    """Print as Python, as a system call and as a C library would, which keeps it back."""
    print(f"{text} by Python")
    os.write(1, f"{text} by write\n".encode())
    ctypes.CDLL(None).printf(f"{text} by C\n".encode())


class Batched(FaultyModel):
    """Wants to know which videos come; its tracks say that it was told."""

    told = 0

    def prepare(self, videos: Sequence[Video], scratch: Path) -> None:
        """Keep how many videos come."""
        self.told = len(videos)

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
        """Yield one track, with a score by what it was told."""
        yield Track(video.id, vocabulary.categories[0].id, self.told / 100, truth_of(video.id))


class FaultyPlugin:
    """The plugin; ``load`` in its configuration says how loading goes."""

    name = "faulty"
    version = "1"
    summary = "For tests"
    Config = FaultyConfig

    def load(self, config: FaultyConfig, context: LoadContext) -> Any:
        """Load, refuse, break, or die."""
        if config.prints:
            print_everywhere(f"{config.prints} while loading")
        if config.load in dir(builtins):
            raise getattr(builtins, config.load)(0)
        if config.load == "refuse":
            raise UserError("weights.pt", "are not there", "get them")
        if config.load == "break":
            raise ZeroDivisionError("of zero")
        if config.load == "use cuda" and cuda_is_in_use:
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")
        if config.load == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return Batched(config) if config.load == "batched" else FaultyModel(config)


PLUGIN = FaultyPlugin()
