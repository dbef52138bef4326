"""A worker, the same in every kind of process: it loads the model from its spec, runs videos and stores tracks."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
import traceback

from harness.engines.devices import choose_gpu
from harness.engines.local import VideoRunner
from harness.engines.model_spec import ModelSpec
from harness.engines.pool import LoadFailed, WorkerReady, WriteFailed
from harness.errors import UserError
from harness.events import Event
from harness.plugin_code import convert_plugin_errors, describe_error, isolate_plugin
from harness.run_folder.store import PredictionStore
from harness.types import BatchModel, Video

log = logging.getLogger(__name__)


def serialize(spec: ModelSpec, store: PredictionStore) -> bytes:
    """Pickle a spec and a store for other processes; raises `UserError` if they cannot be pickled.

    The pickle passes between processes of one program: it is never written to a file, nor read from one.
    """
    try:
        with isolate_plugin(spec.name):
            return pickle.dumps((spec, store), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # the plugin's own code takes part in pickling
        what = f"cannot be sent to other processes with {spec.context.dataset.name}: {describe_error(error)}"
        hint = "run it with one worker, or let its plugin and the dataset's frames be pickled"
        raise UserError(spec.name, what, hint) from error


class Worker:
    """Runs videos by id, in this process."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._runner: VideoRunner | None = None
        self._has_failed = self._out_of_memory = False

    def load(self, payload: bytes) -> WorkerReady | LoadFailed:
        """Load the model from the bytes of `serialize`."""
        host = socket.gethostname()
        try:
            with convert_plugin_errors(f"the model's spec on {host}", "cannot be unpickled"):
                self._spec, self._store = self._unpickled(payload)
            self._videos: dict[int, Video] = {video.id: video for video in self._spec.context.dataset.videos}
            choose_gpu(self._device)
            model = self._spec.load(host)
        except UserError as error:
            if error.__cause__ is not None:  # it is not pickled with the error
                error.add_note(traceback.format_exc())
            return LoadFailed(error)
        self._runner = VideoRunner(self._spec, model)
        return WorkerReady(host, os.getpid(), isinstance(model, BatchModel))

    def run(self, video_id: int, then: int | None = None, store: PredictionStore | None = None) -> Event | WriteFailed:
        """Run a video and store its tracks, by default in the store of the run; ``then`` probably follows it."""
        assert self._runner is not None
        following = self._videos[then] if then is not None else None
        try:
            event = self._runner.attempt(self._videos[video_id], store or self._store, following)
        except UserError as error:
            return WriteFailed(error)
        self._has_failed, self._out_of_memory = event.kind != "done", event.out_of_memory
        return event

    def is_usable(self) -> bool:
        """Whether the device still works after a failed video.

        After an illegal access or a failed assertion on a GPU every later call of the process fails, and the process
        has to be replaced; and so it is where the process ran out of memory, because libraries may wait forever for
        memory that is not there. Also frees the memory that the failed video left in the cache.
        """
        if self._out_of_memory:
            log.warning("the process ran out of memory and is replaced")
            return False
        torch = sys.modules.get("torch")
        on_gpu = self._device.startswith("cuda")
        if not self._has_failed or torch is None or not on_gpu or not torch.cuda.is_initialized():
            return True
        try:
            # the device of this worker: the current one is device 0 in every worker that has not chosen another
            torch.cuda.synchronize(self._device)
            torch.cuda.empty_cache()
        except RuntimeError as error:
            log.warning("%s no longer works: %s", self._device, error)
            return False
        return True

    def _unpickled(self, payload: bytes) -> tuple[ModelSpec, PredictionStore]:
        spec, store = pickle.loads(payload)
        assert isinstance(spec, ModelSpec)
        return spec.on(self._device), store
