"""Measures the peak memory of scoring: ``python -m scoring_peak_memory FOLDER TIMES``.

Generates in FOLDER a run of TIMES the size of LV-VIS val (837 videos, 1,196 categories, 50 tracks per video), as a
store and as results.json. A few videos are drawn; the others are copies with different ids, categories and scores. Then
separate processes score it: ``harness eval`` from both, and a process that also writes all result files of a run. Each
prints a line of JSON. Without TIMES, the existing files of FOLDER (``gt.json``, ``results.json``, ``predictions``) are
scored.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from workload import Workload, make

from harness.formats.youtube_vis import read_annotations
from harness.masks import Rle
from harness.run_folder.results import score_predictions, write_results
from harness.run_folder.schemas import FORMAT
from harness.run_folder.store import PredictionStore, tabulate
from harness.types import Dataset, Track, Video

LVVIS_VIDEOS = 837
DRAWN = Workload(videos=6, frames=23, categories=1196, truths=4, tracks=50, height=720, width=1280)
EVAL = "from harness.cli.main import main; main()"


def multiply(folder: Path, videos: int, drawn: Workload = DRAWN, seed: int = 0) -> None:
    """Write a run of ``videos`` videos, which are copies of the ``drawn`` ones in rotation."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    gt, results = (json.loads(path.read_text()) for path in make(folder, drawn, seed))
    truths, tracks = _by_video(gt["annotations"]), _by_video(results)
    tables = [tabulate(_video(1, drawn), [_track(row) for row in rows]) for rows in tracks]
    gt["videos"] = [{**gt["videos"][v % drawn.videos], "id": v + 1} for v in range(videos)]
    store, annotations = PredictionStore(folder / "predictions"), itertools.count(1)
    with (folder / "gt.json").open("w") as truth, (folder / "results.json").open("w") as found:
        truth.write(json.dumps({k: gt[k] for k in ("videos", "categories")})[:-1] + ', "annotations": ')
        for v in range(videos):
            source, shift = v % drawn.videos, int(rng.integers(drawn.categories))
            objects, copies = ([_copy(row, v + 1, shift, drawn) for row in rows[source]] for rows in (truths, tracks))
            for row in objects:
                row["id"] = next(annotations)
            for row in copies:
                row["score"] = float(rng.random())
            for file, rows in ((truth, objects), (found, copies)):
                file.write((",\n" if v else "[\n") + ",\n".join(map(json.dumps, rows)))
            table = tables[source]
            for name in ("video_id", "category_id", "score"):
                place = table.schema.get_field_index(name)
                table = table.set_column(place, table.schema.field(name), [[row[name] for row in copies]])
            store.write_table(_video(v + 1, drawn), table)
        truth.write("]}")
        found.write("]")


def _copy(row: dict[str, Any], video: int, shift: int, drawn: Workload) -> dict[str, Any]:
    """Return a copy of an annotation or prediction for another video; ``shift`` changes its category."""
    return {**row, "video_id": video, "category_id": (row["category_id"] + shift) % drawn.categories + 1}


def _by_video(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [list(group) for _, group in itertools.groupby(rows, key=lambda row: row["video_id"])]


def _video(number: int, w: Workload) -> Video:
    return Video(number, str(number), w.height, w.width, range(w.frames))  # type: ignore[arg-type]


def _track(row: dict[str, Any]) -> Track:
    masks = (None if m is None else Rle(tuple(m["size"]), m["counts"].encode()) for m in row["segmentations"])
    return Track(1, row["category_id"], row["score"], tuple(masks))


def score_as_a_run_does(folder: Path) -> None:
    """Score the folder's store and write the result files, including the match table."""
    dataset = Dataset("lvvis", "val", (), (), "lvvis", read_annotations(folder / "gt.json"))
    store = PredictionStore(folder / "predictions")
    [scored] = score_predictions(dataset, [dataset.protocol], store, store.done(), True, False)
    head = {"format": FORMAT, "model": "made", "dataset": "lvvis", "split": "val", "folder": str(folder)}
    videos = {"total": len(store.done()), "done": len(store.done()), "failed": []}
    record = {**head, "complete": True, **scored.values, "videos": videos, "protocols": [scored.values]}
    write_results(folder, record, [scored])


def measured(arguments: list[str]) -> dict[str, float]:
    """Run Python with these arguments, without its output; return seconds and peak resident memory in MB."""
    began = time.perf_counter()
    nothing = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    child = os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ, file_actions=[nothing])
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{arguments} ended with status {status}")
    scale = 1 if sys.platform == "darwin" else 1024
    return {"seconds": round(time.perf_counter() - began, 2), "peak_mb": round(usage.ru_maxrss * scale / 1e6)}


def measure(folder: Path) -> None:
    """Score the folder's predictions in each way twice (the first time fills the page cache), and print the costs."""
    store = folder / "predictions"
    shards = [path.stat().st_size for path in store.iterdir()]
    sizes = {"videos": len(shards), "store_mb": round(sum(shards) / 1e6)}
    sizes |= {f"{name}_mb": round((folder / f"{name}.json").stat().st_size / 1e6) for name in ("gt", "results")}
    print(json.dumps(sizes), flush=True)
    given = ["eval", "--json", "--protocol", "lvvis", "--annotations", str(folder / "gt.json"), "--predictions"]
    ways = {
        "eval store": ["-c", EVAL, *given, str(store)],
        "eval results.json": ["-c", EVAL, *given, str(folder / "results.json")],
        "score a run": ["-m", "scoring_peak_memory", "run", str(folder)],
    }
    for way, arguments in ways.items():
        runs = [measured(arguments) for _ in range(2)]
        best = {name: pick(run[name] for run in runs) for name, pick in (("seconds", min), ("peak_mb", max))}
        print(json.dumps({"way": way, **best}), flush=True)


def main() -> None:
    if sys.argv[1] == "run":
        score_as_a_run_does(Path(sys.argv[2]))
        return
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        multiply(folder, LVVIS_VIDEOS * int(sys.argv[2]))
    measure(folder)


if __name__ == "__main__":
    main()
