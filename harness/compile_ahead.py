"""Compiles the scoring functions in a separate process while a model runs, if numba's cache does not have them.

numba caches compiled functions on disk for later processes. Without this module, the first run on a new machine
compiles them after its last video, which takes several seconds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.formats.youtube_vis import annotations_from_document
from harness.frames import MissingFrames, usable_cores
from harness.masks import Rle
from harness.run_folder.store import PredictionStore, tabulate
from harness.scoring.dispatch import score_all
from harness.scoring.match import score_categories
from harness.scoring.shard_reader import ShardReader
from harness.types import Track, Video

COMPILE_SECONDS = 60.0
"""Longest time that a run waits for the process; after that it stops the process and compiles by itself."""
_PROGRAM = """
import sys
sys.path.append(sys.argv[1])
from harness.compile_ahead import compile_scoring
compile_scoring()
"""


@contextmanager
def compiling_ahead(is_scored: bool) -> Iterator[Callable[[], None]]:
    """Start the process if the run ``is_scored``, the functions are not compiled, and there is a second core.

    Yields a function that waits until the process has ended, at most `COMPILE_SECONDS`. Results do not depend on it:
    numba compiles a function that is missing in the cache on its first call.
    """
    if not is_scored or is_compiled() or usable_cores() < 2:
        yield lambda: None
        return
    root = str(Path(__file__).parents[1])
    program = [sys.executable, "-P", "-c", _PROGRAM, root]  # -P: import nothing from the working directory
    quiet = subprocess.DEVNULL
    try:
        process = subprocess.Popen(program, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    except OSError:  # for example no memory for another process
        yield lambda: None
        return

    def wait() -> None:
        try:
            process.wait(COMPILE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()

    try:
        yield wait
    finally:
        process.kill()
        process.wait()


def is_compiled() -> bool:
    """Whether numba's cache has the last function that scoring compiles, or there is no cache."""
    kept = score_categories.stats.cache_path
    return kept is None or any(Path(kept).glob(f"*.{score_categories.__name__}-*.nbi"))


def compile_scoring() -> None:
    """Score one track of one pixel as a run does, so that all functions of scoring are compiled and cached."""
    category, place = {"id": 1, "name": "pixel", "partition": 0}, {"height": 1, "width": 1, "length": 1}
    truth = {"id": 1, "video_id": 1, "category_id": 1, "segmentations": [{"size": [1, 1], "counts": "01"}]}
    document = {
        "videos": [{"id": 1, "file_names": ["1.jpg"], **place}],
        "categories": [category],
        "annotations": [{**truth, "iscrowd": 0, "areas": [1], **place}],
    }
    annotations = annotations_from_document(document, "one pixel")
    video = Video(1, "1", 1, 1, MissingFrames(1))
    with tempfile.TemporaryDirectory() as folder:
        store = PredictionStore(Path(folder))
        store.write_table(video, tabulate(video, [Track(1, 1, 1.0, (Rle((1, 1), b"01"),))]))
        score_all(["lvvis"], annotations, lambda: ShardReader(store, {1}), False, None)
