"""What a worker does, in whatever process: load the model from its spec, run one video, store its tracks."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
import traceback

from harness.engines.local import attempt_video
from harness.engines.model_spec import ModelSpec
from harness.engines.pool import LoadFailed, WorkerReady, WriteFailed
from harness.errors import UserError
from harness.events import Event
from harness.plugin_code import convert_plugin_errors, describe_error, isolate_plugin
from harness.run_folder.store import PredictionStore
from harness.types import BatchModel, Model, Video

log = logging.getLogger(__name__)


def serialize(spec: ModelSpec, store: PredictionStore) -> bytes:
    """A spec and a store for other processes; raises `UserError` where they cannot be sent.

    It is a pickle between processes of one program: it is never written to a file, nor read from one.
    """
    try:
        with isolate_plugin(spec.name):
            return pickle.dumps((spec, store), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # what is pickled is the plugin's, too, and so is how
        what = f"cannot be sent to other processes with {spec.context.dataset.name}: {describe_error(error)}"
        hint = "run it with --workers 1, or let its plugin and the dataset's frames be pickled"
        raise UserError(spec.name, what, hint) from error


class Worker:
    """Runs videos, asked for by id, in this process."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._model: Model | None = None
        self._has_failed = False

    def load(self, payload: bytes) -> WorkerReady | LoadFailed:
        """Load the model of what `serialize` gave."""
        host = socket.gethostname()
        try:
            with convert_plugin_errors(f"what is sent to {host}", "cannot be read there"):
                self._spec, self._store = self._unpacked(payload)
            self._videos: dict[int, Video] = {video.id: video for video in self._spec.context.dataset.videos}
            self._model = self._spec.load(host)
        except UserError as error:
            if error.__cause__ is not None:  # which stays behind
                error.add_note(traceback.format_exc())
            return LoadFailed(error)
        return WorkerReady(host, os.getpid(), isinstance(self._model, BatchModel))

    def run(self, video_id: int, store: PredictionStore | None = None) -> Event | WriteFailed:
        """Run a video and store its tracks, in ``store`` if that is given and else in that of the run."""
        assert self._model is not None
        try:
            event = attempt_video(self._spec, self._model, self._videos[video_id], store or self._store)
        except UserError as error:
            return WriteFailed(error)
        self._has_failed = event.kind != "done"
        return event

    def is_usable(self) -> bool:
        """Whether the device still answers, if the last video has failed.

        An illegal access or a failed assertion on a GPU fails every later call of the process: another one is needed.
        Memory that a failed video has left cached is given back.
        """
        torch = sys.modules.get("torch")
        if not self._has_failed or torch is None or not torch.cuda.is_initialized():
            return True
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError as error:
            log.warning("%s does not answer any more: %s", self._device, error)
            return False
        return True

    def _unpacked(self, payload: bytes) -> tuple[ModelSpec, PredictionStore]:
        spec, store = pickle.loads(payload)
        assert isinstance(spec, ModelSpec)
        return spec.on(self._device), store
