"""SAM 3's video model, adapted to large vocabularies: a frame is encoded once, words are detected together.

Detector, tracker and their rules are the library's, except that words do not affect each other: each word's
objects are those of a separate session, as the official code tracks one prompt at a time. Written against
`transformers` 5.24, whose private methods it replaces in part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Sam3VideoModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.sam3_video import modeling_sam3_video as library

from harness.baselines.sam3 import mask_kernels
from harness.baselines.sam3.sessions import WordsSession

TEXTS_AT_ONCE = 128


class StreamedSam3(Sam3VideoModel):  # type: ignore[misc]
    """`Sam3VideoModel` for several sessions on the same frames.

    For each frame `see` it once, then call the network with every session and the frame's index.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        library.cv_utils_kernel = mask_kernels  # the library checks this before it downloads its own
        self._encode = self.detector_model.get_vision_features
        self.detector_model.get_vision_features = self._seen
        self._memories = self.tracker_model._build_memory_attention_inputs
        self.tracker_model._build_memory_attention_inputs = self._remembered
        self._features: Any = None
        self._tracker_features: Any = None
        self._tracked: list[int] = []

    def see(self, pixels: Tensor) -> None:
        """Encode a frame ``(1, 3, height, width)``, normalised, for detector and tracker."""
        self._features = self._encode(pixel_values=pixels)
        self._tracker_features = super().get_vision_features_for_tracker(self._features)

    def embed(self, tokens: Tensor, text_mask: Tensor) -> Tensor:
        """Encode prompts ``(n, tokens)``; returns ``(n, tokens, channels)`` in float32."""
        text = torch.empty(0)
        for start in range(0, len(tokens), TEXTS_AT_ONCE):
            part = slice(start, start + TEXTS_AT_ONCE)
            encoded = self.detector_model.get_text_features(input_ids=tokens[part], attention_mask=text_mask[part])
            if start == 0:  # concatenating them at the end would need twice the memory
                text = torch.empty((len(tokens), *encoded.pooler_output.shape[1:]), device=tokens.device)
            text[part] = encoded.pooler_output
        return text

    def get_vision_features_for_tracker(self, vision_embeds: Any) -> Any:
        """The tracker's features of the current frame."""
        return self._tracker_features

    def run_detection(self, inference_session: WordsSession, vision_embeds: Any) -> dict[int, dict[str, Tensor]]:
        """Look for all words of a session together; objects by position of the word, as the library's method does."""
        session = inference_session
        found = self.detector_model(
            vision_embeds=_repeated(vision_embeds, len(session.prompts)),
            text_embeds=BaseModelOutputWithPooling(pooler_output=session.text),
            attention_mask=session.text_mask,
        )
        scores = found.pred_logits.sigmoid() * found.presence_logits.sigmoid()
        detections = {}
        for word in session.prompts:
            kept = scores[word] > self.score_threshold_detection
            if self.det_nms_thresh > 0:
                limits = self.score_threshold_detection, self.det_nms_thresh
                kept &= library.nms_masks(scores[word], found.pred_masks[word], *limits)
            parts = {"bbox": found.pred_boxes[word], "mask": found.pred_masks[word], "scores": scores[word]}
            detections[word] = {name: part[kept] for name, part in parts.items()}
        return detections

    def _associate_det_trk(self, *, det_prompt_ids: Tensor, trk_prompt_ids: Tensor, **others: Any) -> Any:
        """Which detections are new objects, and which match a tracked one.

        The library's rule for a session without objects, that all detections are new, applies to each word here.
        """
        new, *rest = super()._associate_det_trk(det_prompt_ids=det_prompt_ids, trk_prompt_ids=trk_prompt_ids, **others)
        first = torch.nonzero(~torch.isin(det_prompt_ids, trk_prompt_ids))[:, 0].tolist()
        return sorted({*new, *first}), *rest

    def _tracker_add_new_objects(self, inference_session: WordsSession, frame_idx: int, *args: Any, **kw: Any) -> None:
        """Start tracks of new objects. The library would track the others through this frame again and lose their
        reconciled masks; as conditioning outputs they stay unchanged.
        """
        others = [
            outputs
            for outputs in inference_session.output_dict_per_obj.values()
            if frame_idx in outputs["non_cond_frame_outputs"]
        ]
        for outputs in others:
            outputs["cond_frame_outputs"][frame_idx] = outputs["non_cond_frame_outputs"].pop(frame_idx)
        super()._tracker_add_new_objects(inference_session, frame_idx, *args, **kw)
        for outputs in others:
            outputs["non_cond_frame_outputs"][frame_idx] = outputs["cond_frame_outputs"].pop(frame_idx)

    def run_tracker_propagation(self, inference_session: WordsSession, frame_idx: int, reverse: bool) -> Any:
        """The masks of the session's objects in the next frame; stores the ids of these objects."""
        self._tracked = list(inference_session.obj_ids)
        return super().run_tracker_propagation(inference_session, frame_idx, reverse)

    def build_outputs(self, inference_session: WordsSession, *args: Any, **options: Any) -> Any:
        """Masks by object. The library pairs them with the objects that are left after some were removed.

        The session's list is replaced once more after this call.
        """
        inference_session.obj_ids = self._tracked
        return super().build_outputs(inference_session, *args, **options)

    def _seen(self, pixel_values: Tensor) -> Any:
        return self._features

    def _remembered(self, *outputs: Any) -> tuple[list[Tensor], list[Tensor]]:
        """Memories in float32: they are kept in bfloat16, which autocast to float16 cannot join with others."""
        memories, positions = self._memories(*outputs)
        return [memory.float() for memory in memories], positions


def _repeated(features: Any, words: int) -> Any:
    """The features of one frame for a batch of words, without copies."""

    def expanded(levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(level.expand(words, -1, -1, -1) for level in levels)

    return type(features)(
        fpn_hidden_states=expanded(features.fpn_hidden_states),
        fpn_position_encoding=expanded(features.fpn_position_encoding),
    )
