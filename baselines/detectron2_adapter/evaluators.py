"""The harness's scoring as detectron2 evaluators: a training script gets exact, fast numbers by changing an import.

They take the arguments of the evaluators in VIS projects, and give percent under ``segm``, as detectron2
prints and checks them (``TEST.EXPECTED_RESULTS``), each class's own as ``AP-<class>``; ``segm_corrected`` has the same
predictions without the official tool's faults. Faults are reported early: in annotations when an evaluator is
created, in tracks by `process`.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from harness.baselines.detectron2_adapter import missing_package_error
from harness.baselines.detectron2_adapter.outputs import tracks_of_outputs
from harness.baselines.detectron2_adapter.user_code import function_of
from harness.errors import UserError
from harness.export import RESULTS, write_results_file
from harness.formats.youtube_vis import read_annotations
from harness.run_folder.store import PredictionStore, tabulate
from harness.scoring.metrics import Metrics
from harness.scoring.score import check_truth, score_store
from harness.types import Track, Video

try:
    from detectron2.data import MetadataCatalog
    from detectron2.evaluation import DatasetEvaluator
    from detectron2.utils import comm
except ImportError as error:
    raise missing_package_error(error) from error

log = logging.getLogger(__name__)


class VideoEvaluator(DatasetEvaluator):  # type: ignore[misc]
    """Scores video instance segmentation by a protocol of `harness.scoring`; use one of its subclasses.

    ``dataset_name`` is registered with a ``json_file`` (and with ``thing_dataset_id_to_contiguous_id``, without which
    labels are positions in the file's categories by ascending id). With ``distributed`` the processes' predictions are
    merged on the first one. ``output_dir`` gets ``results.json`` before anything is scored. ``outputs`` is a
    function (outputs, inputs), or MODULE:FUNCTION, for models with another form of output, as for ``harness
    run``. ``tasks`` and ``use_fast_impl`` are accepted for existing calls and have no effect. Raises
    `UserError` for a file that is missing or malformed, or on which the official tool aborts.
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
        outputs: str | Callable[[Any, list[dict[str, Any]]], Any] | None = None,
    ) -> None:
        metadata = MetadataCatalog.get(dataset_name)
        path = getattr(metadata, "json_file", None)
        if path is None:
            raise UserError(f"detectron2 dataset {dataset_name}", "has no json_file", "set it in its MetadataCatalog")
        self.annotations = read_annotations(Path(path))
        check_truth(self.protocol, self.annotations, strict=True)  # not nan after hours of training
        self._outputs = function_of(outputs, "outputs") if isinstance(outputs, str) else outputs
        self._names: Sequence[str] = getattr(metadata, "thing_classes", ())
        ids = {category.id: index for index, category in enumerate(self.annotations.categories)}
        known = getattr(metadata, "thing_dataset_id_to_contiguous_id", ids)
        self._category: dict[int, int] = {label: category for category, label in known.items()}
        self._videos = {v.id: v for v in self.annotations.videos}
        self._distributed, self._output = distributed, Path(output_dir) if output_dir else None
        self._tracks: dict[int, list[Track]] = {}

    def reset(self) -> None:
        """Drop all predictions."""
        self._tracks = {}

    def process(self, inputs: list[dict[str, Any]], outputs: Any) -> None:
        """Add the outputs for one video, ``inputs[0]``; see `harness.baselines.detectron2_adapter.outputs`.

        Raises `UserError` for a video that the annotations do not have, and for tracks that do not fit it.
        """
        video_id = int(inputs[0]["video_id"])
        if video_id not in self._videos:
            raise UserError(self.annotations.path, f"has no video {video_id}", "evaluate the dataset of this file")
        length = self._videos[video_id].length
        if self._outputs is not None:
            outputs = self._outputs(outputs, inputs)
        tracks = tracks_of_outputs(video_id, length, outputs, self._category_of)
        tabulate(self._video(video_id), tracks)
        self._tracks[video_id] = tracks

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Score the predictions since `reset`: percent by metric, nan where a metric is undefined.

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
        folder = Path(tempfile.mkdtemp(prefix="harness-evaluation-"))
        store = PredictionStore(folder / "predictions")
        for video_id, found in sorted(tracks.items()):
            store.write_video(self._video(video_id), found)
        output = self._output or folder
        output.mkdir(parents=True, exist_ok=True)
        write_results_file(store, output / RESULTS)
        try:
            scored = self._score(store, sum(map(len, tracks.values())))
        except BaseException:
            log.exception("scoring has failed; the predictions are in %s", output / RESULTS)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        return scored

    def _score(self, store: PredictionStore, count: int) -> dict[str, dict[str, float]]:
        if self.annotations.truth is None or not count:
            log.warning("no numbers: %s", "the truth is withheld" if count else "nothing was predicted")
            return {}
        score = score_store(self.protocol, self.annotations, store)
        for warning in score.warnings:
            log.warning("%s: %s, first: %s", warning["kind"], warning["count"], warning["first"])
        numbers = (("segm", score.metrics), ("segm_corrected", score.corrected))
        return OrderedDict((name, self._percent(metrics)) for name, metrics in numbers)

    def _percent(self, metrics: Metrics) -> dict[str, float]:
        """Metrics, and the AP of each class by its name in the catalog, in the order of labels; nan where undefined."""
        by_category = {category.id: row["AP"] for category, row in
                       zip(self.annotations.categories, metrics.per_category, strict=True)}  # fmt: skip
        named = {category.id: category.name for category in self.annotations.categories}
        classes = {}
        for label, category in sorted(self._category.items()):
            name = self._names[label] if label < len(self._names) else named.get(category, category)
            classes[f"AP-{name}"] = by_category.get(category)
        values = {**metrics.values, **(classes if len(classes) > 1 else {})}
        return {name: float("nan") if value is None else 100 * value for name, value in values.items()}

    def _video(self, video_id: int) -> Video:
        record = self._videos[video_id]
        frames = cast(Any, range(record.length))  # the store needs only their number
        return Video(record.id, record.name, record.height, record.width, frames)

    def _category_of(self, label: int) -> int:
        if label not in self._category:
            what = f"label {label} is not among the {len(self._category)} of the dataset"
            raise UserError("detectron2", what, "check thing_dataset_id_to_contiguous_id")
        return self._category[label]


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
