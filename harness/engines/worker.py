"""What a worker does, in whatever process: load the model from its recipe, run one video, store its tracks."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
import traceback

from harness.engines.local import attempt_video
from harness.engines.pool import Ready, Refused, Unstored
from harness.engines.recipe import Recipe
from harness.errors import UserError
from harness.events import Event
from harness.plugin_code import asked, contained, described
from harness.run_folder.store import PredictionStore
from harness.types import ForesightedModel, Model, Video

log = logging.getLogger(__name__)


def packed(recipe: Recipe, store: PredictionStore) -> bytes:
    """A recipe and a store for other processes; raises `UserError` where they cannot be sent.

    It is a pickle between processes of one program: it is never written to a file, nor read from one.
    """
    try:
        with contained(recipe.name):
            return pickle.dumps((recipe, store), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # what is pickled is the plugin's, too, and so is how
        what = f"cannot be sent to other processes with {recipe.context.dataset.name}: {described(error)}"
        mend = "run it with --workers 1, or let its plugin and the dataset's frames be pickled"
        raise UserError(recipe.name, what, mend) from error


class Worker:
    """Runs videos, asked for by id, in this process."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._model: Model | None = None
        self._has_failed = False

    def load(self, payload: bytes) -> Ready | Refused:
        """Load the model of what `packed` gave."""
        host = socket.gethostname()
        try:
            with asked(f"what is sent to {host}", "cannot be read there"):
                self._recipe, self._store = self._unpacked(payload)
            self._videos: dict[int, Video] = {video.id: video for video in self._recipe.context.dataset.videos}
            self._model = self._recipe.load(host)
        except UserError as error:
            if error.__cause__ is not None:  # which stays behind
                error.add_note(traceback.format_exc())
            return Refused(error)
        return Ready(host, os.getpid(), isinstance(self._model, ForesightedModel))

    def run(self, video_id: int, store: PredictionStore | None = None) -> Event | Unstored:
        """Run a video and store its tracks, in ``store`` if that is given and else in that of the run."""
        assert self._model is not None
        try:
            event = attempt_video(self._recipe, self._model, self._videos[video_id], store or self._store)
        except UserError as error:
            return Unstored(error)
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

    def _unpacked(self, payload: bytes) -> tuple[Recipe, PredictionStore]:
        recipe, store = pickle.loads(payload)
        assert isinstance(recipe, Recipe)
        return recipe.on(self._device), store
