"""SAM 3 as the harness runs it: frame by frame, each word of the vocabulary a text prompt, tracks as run lengths."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.baselines.sam3.config import Sam3Config
from harness.baselines.sam3.network import StreamedSam3
from harness.baselines.sam3.sessions import WordsSession
from harness.errors import UserError
from harness.frames import Image
from harness.masks import Rle
from harness.models.shared.mask_encoding import encode_masks
from harness.models.shared.numeric_policy import float32_policy
from harness.models.shared.preprocess import Geometry
from harness.models.shared.text_classifier import synonyms_of
from harness.models.shared.windows import Stages, is_out_of_memory
from harness.precision import dtype_of
from harness.types import LoadedWeights, Track, Video, Vocabulary

log = logging.getLogger(__name__)

TOKENS = 32
"""Length of a prompt for SAM 3's text encoder; longer ones are cut."""


_SHOWN = 8
"""Prompts that `Sam3.facts` names."""


class Prompts(NamedTuple):
    """The prompts of a vocabulary for SAM 3, one per category."""

    digest: str
    words: tuple[str, ...]
    text: Tensor
    """``(words, tokens, channels)``."""
    text_mask: Tensor
    """``(words, tokens)``: which tokens are in use."""


class SegmentedObject(NamedTuple):
    """One object and its masks so far."""

    label: int
    """Position of its category in the vocabulary."""
    score: float
    masks: dict[int, Rle]
    """By frame, where it is visible."""


class Sam3:
    """Finds the tracks of a video for any vocabulary (`harness.types.Model`).

    ``processor`` is the `Sam3VideoProcessor` of the checkpoint. Weights are in float32; ``precision`` is ``fp32``,
    ``bf16`` or ``fp16``: the number format that autocast computes in, as in the authors' code. ``stage(name)`` is
    entered around each stage of the work, for timing.
    """

    loaded_weights: LoadedWeights | None = None

    def __init__(
        self,
        network: StreamedSam3,
        processor: Any,
        config: Sam3Config | None = None,
        device: str = "cpu",
        precision: str = "fp32",
        stage: Stages = lambda name: nullcontext(),
    ) -> None:
        self.config, self.stage = config or Sam3Config(), stage
        self.device, self.dtype = torch.device(device), dtype_of(precision)
        self.network, self.processor = network.to(self.device, torch.float32).eval(), processor
        self._prompts: Prompts | None = None
        _set(network, "score_threshold_detection", self.config.detection_threshold)
        _set(network, "new_det_thresh", self.config.new_object_threshold)
        _set(network, "max_num_objects", self.config.max_objects)

    def facts(self) -> dict[str, str]:
        """Facts for the run's record, see `harness.types.Model`."""
        if self._prompts is None:
            return {"words": "none"}
        words = self._prompts.words
        shown = ", ".join(words[:_SHOWN]) + (", ..." if len(words) > _SHOWN else "")
        return {"words": f"{len(words)}, each a text prompt: {shown}"}

    @torch.inference_mode()
    def predict(self, video: Video, vocabulary: Vocabulary) -> list[Track]:
        """The tracks of ``video``, best first; ``None`` in frames where an object is not visible.

        Only one frame is in memory, and of earlier frames what the tracker attends to. Raises `UserError` for frames of
        another size than the video's, and where the device's memory does not suffice.
        """
        if not vocabulary.categories or not len(video.frames):
            return []
        try:
            return self._predict(video, vocabulary)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            what = f"does not have enough memory for {self.config.words_at_once} words at once"
            hint = "lower words_at_once or max_objects (words_at_once=2), or use precision bf16"
            raise UserError(f"device {self.device}", what, hint) from error

    def _predict(self, video: Video, vocabulary: Vocabulary) -> list[Track]:
        sessions = self._sessions(video, self.prompts(vocabulary))
        seen: list[dict[int, SegmentedObject]] = [{} for _ in sessions]
        frames = video.read()
        for index in range(len(video.frames)):
            with self.stage("decode"):
                pixels = self._prepared(video, index, next(frames))
            with self.stage("backbone"), self._mixed():
                self.network.see(pixels)
            for number, (session, objects) in enumerate(zip(sessions, seen, strict=True)):
                self._follow(session, index, number * self.config.words_at_once, objects)
        return self._tracks(video, vocabulary, seen)

    def prompts(self, vocabulary: Vocabulary) -> Prompts:
        """The prompts of ``vocabulary``, those of the last call or encoded: the first synonym of each name."""
        if self._prompts is None or self._prompts.digest != vocabulary.digest:
            words = tuple(synonyms_of(category.name, clean=True)[0] for category in vocabulary.categories)
            tokens = self.processor.tokenizer(
                list(words), return_tensors="pt", padding="max_length", truncation=True, max_length=TOKENS
            ).to(self.device)
            with self.stage("text"), self._mixed():
                text = self.network.embed(tokens.input_ids, tokens.attention_mask)
            self._prompts = Prompts(vocabulary.digest, words, text, tokens.attention_mask)
        return self._prompts

    @contextmanager
    def _mixed(self) -> Iterator[None]:
        """Autocast to the chosen number format; float32 is exact, without TF32."""
        mixed = self.dtype != torch.float32
        with float32_policy(exact=not mixed), torch.autocast(self.device.type, dtype=self.dtype, enabled=mixed):
            yield

    def _sessions(self, video: Video, prompts: Prompts) -> list[WordsSession]:
        """One session for every ``words_at_once`` words, in order."""
        size, tracker = self.config.words_at_once, self.network.config.tracker_config
        starts = [slice(start, start + size) for start in range(0, len(prompts.words), size)]
        return [WordsSession(video, prompts.words[s], prompts.text[s], prompts.text_mask[s], tracker) for s in starts]

    def _prepared(self, video: Video, index: int, frame: Image) -> Tensor:
        """A frame as the network's input: ``(1, 3, size, size)``."""
        if frame.shape[:2] != (video.height, video.width):
            raise UserError(
                f"video {video.id} ({video.name}), frame {index}",
                f"is {frame.shape[1]}x{frame.shape[0]}, the video is {video.width}x{video.height}",
                "give all frames of a video one size",
            )
        image = torch.from_numpy(frame).permute(2, 0, 1).to(self.device)
        prepared: Tensor = self.processor(images=image, return_tensors="pt").pixel_values
        return prepared.to(self.device, torch.float32)

    def _follow(self, session: WordsSession, index: int, first_label: int, objects: dict[int, SegmentedObject]) -> None:
        """Find and track the objects of a session in the latest encoded frame, and store their masks."""
        with self.stage("tracking"):
            with self._mixed():
                output = self.network(inference_session=session, frame_idx=index)
            session.hotstart_removed_obj_ids.update(output.removed_obj_ids)
            found = self.processor.postprocess_outputs(session, output)
        with self.stage("encoding"):
            size = (session.video_height, session.video_width)
            rles = encode_masks(found["masks"].float(), Geometry(size, size, size)).rles
        for number, score, rle in zip(found["object_ids"].tolist(), found["scores"].tolist(), rles, strict=True):
            label = first_label + session.obj_id_to_prompt_id[number]
            objects.setdefault(number, SegmentedObject(label, score, {})).masks[index] = rle
        for removed in output.removed_obj_ids & objects.keys():
            del objects[removed]
        session.forget(index)

    def _tracks(self, video: Video, vocabulary: Vocabulary, seen: list[dict[int, SegmentedObject]]) -> list[Track]:
        """The best objects; equal ones in the order of the vocabulary, then of their discovery."""
        objects = [found for session in seen for found in session.values()]
        objects.sort(key=lambda found: (-found.score, found.label))
        return [
            Track(
                video.id,
                vocabulary.categories[found.label].id,
                found.score,
                tuple(found.masks.get(index) for index in range(len(video.frames))),
            )
            for found in objects[: self.config.detections_per_video]
        ]


def _set(network: StreamedSam3, name: str, value: float | None) -> None:
    if value is not None:
        setattr(network, name, value)
