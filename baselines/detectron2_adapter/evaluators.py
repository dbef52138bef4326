"""Our scoring as detectron2 evaluators: a training script gets exact, fast numbers by changing an import.

They take the arguments of the evaluators that VIS projects carry along, and give percent under ``segm``, as detectron2
prints and checks them; ``segm_corrected`` has the same predictions without the official tool's faults.
"""

from __future__ import annotations

import logging
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

from harness.baselines.detectron2_adapter import missing
from harness.baselines.detectron2_adapter.outputs import tracks_of
from harness.errors import UserError
from harness.export import RESULTS, write_results_file
from harness.formats.youtube_vis import read_annotations
from harness.run_folder.store import PredictionStore
from harness.scoring.score import score_store
from harness.types import Track, Video

try:
    from detectron2.data import MetadataCatalog
    from detectron2.evaluation import DatasetEvaluator
    from detectron2.utils import comm
except ImportError as error:
    raise missing(error) from error

log = logging.getLogger(__name__)


class VideoEvaluator(DatasetEvaluator):  # type: ignore[misc]
    """Scores video instance segmentation by a protocol of `harness.scoring`; use one of its subclasses.

    ``dataset_name`` is registered with a ``json_file`` (and with ``thing_dataset_id_to_contiguous_id``, without which
    labels are positions in the file's categories by ascending id). With ``distributed`` the processes' predictions are
    put together on the first one. ``output_dir`` gets ``results.json``. ``tasks`` and ``use_fast_impl`` are taken for
    the sake of existing calls and change nothing. Raises `UserError` for a file that is missing or malformed.
    """

    protocol = ""

    def __init__(
        self,
        dataset_name: str,
        tasks: Any = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        use_fast_impl: bool = True,
    ) -> None:
        metadata = MetadataCatalog.get(dataset_name)
        path = getattr(metadata, "json_file", None)
        if path is None:
            raise UserError(f"detectron2 dataset {dataset_name}", "has no json_file", "set it in its MetadataCatalog")
        self.annotations = read_annotations(Path(path))
        ids = {category.id: index for index, category in enumerate(self.annotations.categories)}
        known = getattr(metadata, "thing_dataset_id_to_contiguous_id", ids)
        self._category: dict[int, int] = {label: category for category, label in known.items()}
        self._videos = {v.id: v for v in self.annotations.videos}
        self._distributed, self._output = distributed, Path(output_dir) if output_dir else None
        self._tracks: dict[int, list[Track]] = {}

    def reset(self) -> None:
        """Forget what was predicted."""
        self._tracks = {}

    def process(self, inputs: list[dict[str, Any]], outputs: Any) -> None:
        """Take in the outputs for one video, ``inputs[0]``; see `harness.baselines.detectron2_adapter.outputs`."""
        video_id = int(inputs[0]["video_id"])
        if video_id not in self._videos:
            raise UserError(self.annotations.path, f"has no video {video_id}", "evaluate the dataset of this file")
        length = self._videos[video_id].length
        self._tracks[video_id] = tracks_of(video_id, length, outputs, self._category_of)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Score what was predicted since `reset`: percent by metric, nan where a metric is undefined.

        Empty on other processes than the first, where the truth is withheld, and where nothing was predicted.
        """
        tracks = self._tracks
        if self._distributed:
            comm.synchronize()
            tracks = {video: found for part in comm.gather(tracks, dst=0) for video, found in part.items()}
            if not comm.is_main_process():
                return {}
        if len(tracks) < len(self._videos):
            log.warning(
                "only %s of %s videos were predicted; the others count as missed", len(tracks), len(self._videos)
            )
        with tempfile.TemporaryDirectory(prefix="harness-evaluation-") as folder:
            store = PredictionStore(Path(folder))
            for video_id, found in tracks.items():
                store.write_video(self._video(video_id), found)
            return self._score(store, sum(map(len, tracks.values())))

    def _score(self, store: PredictionStore, count: int) -> dict[str, dict[str, float]]:
        if self._output is not None:
            self._output.mkdir(parents=True, exist_ok=True)
            write_results_file(store, self._output / RESULTS)
        if self.annotations.truth is None or not count:
            log.warning("no numbers: %s", "the truth is withheld" if count else "nothing was predicted")
            return {}
        score = score_store(self.protocol, self.annotations, store)
        for warning in score.warnings:
            log.warning("%s: %s, first: %s", warning["kind"], warning["count"], warning["first"])
        numbers = (("segm", score.metrics), ("segm_corrected", score.corrected))
        return OrderedDict((name, _percent(metrics.values)) for name, metrics in numbers)

    def _video(self, video_id: int) -> Video:
        record = self._videos[video_id]
        frames = cast(Any, range(record.length))  # the store asks for their number only
        return Video(record.id, record.name, record.height, record.width, frames)

    def _category_of(self, label: int) -> int:
        if label not in self._category:
            what = f"label {label} is none of the {len(self._category)} of the dataset"
            raise UserError("detectron2", what, "check thing_dataset_id_to_contiguous_id")
        return self._category[label]


def _percent(values: dict[str, float | None]) -> dict[str, float]:
    return {name: float("nan") if value is None else 100 * value for name, value in values.items()}


class LVVISEvaluator(VideoEvaluator):
    """LV-VIS: AP, APb and APn as the official tool has them."""

    protocol = "lvvis"


class YTVISEvaluator(VideoEvaluator):
    """YouTube-VIS 2019 and 2021."""

    protocol = "ytvis"


class OVISEvaluator(VideoEvaluator):
    """OVIS, with AP by occlusion."""

    protocol = "ovis"


class BURSTEvaluator(VideoEvaluator):
    """BURST as AP."""

    protocol = "burst"
