"""The state of SAM 3's tracker for some words of a vocabulary, limited in size for videos of any length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Sam3VideoInferenceSession

from harness.types import Video


class FrameCount:
    """Replaces a session's list of frames: only their number is kept, since the network has already encoded the current
    one."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, frame_index: int) -> Tensor:
        return torch.empty(0)


class WordsSession(Sam3VideoInferenceSession):  # type: ignore[misc]
    """Tracks what is found for ``words`` in a video.

    ``text`` ``(words, tokens, channels)`` are their embeddings, ``text_mask`` ``(words, tokens)`` says which tokens are
    in use. ``tracker`` is the configuration of the network's tracker.
    """

    def __init__(self, video: Video, words: Sequence[str], text: Tensor, text_mask: Tensor, tracker: Any) -> None:
        where = dict.fromkeys(("inference_device", "inference_state_device", "video_storage_device"), text.device)
        super().__init__(video_height=video.height, video_width=video.width, dtype=text.dtype, **where)
        self.prompts = dict(enumerate(words))
        self.text, self.text_mask, self.tracker = text, text_mask, tracker
        self.processed_frames = FrameCount(len(video.frames))

    def forget(self, frame_index: int) -> None:
        """Drop state that no frame after ``frame_index`` needs; the library keeps everything of every frame.

        Later frames attend to the memory of ``num_maskmem - 1`` frames before them and of the latest
        ``max_cond_frame_num`` at which an object was set, and at the object pointers of
        ``max_object_pointers_in_encoder - 1`` frames and of all at which the object was set.
        """
        with_memory = frame_index + 2 - self.tracker.num_maskmem
        with_pointer = frame_index + 2 - self.tracker.max_object_pointers_in_encoder
        for outputs in self.output_dict_per_obj.values():
            passed, given = outputs["non_cond_frame_outputs"], outputs["cond_frame_outputs"]
            for frame in [frame for frame in passed if frame < min(with_pointer, with_memory)]:
                del passed[frame]
            latest = self.tracker.max_cond_frame_num
            old = sorted(given)[:-latest] if latest > 0 else []
            for frame, output in (*passed.items(), *((frame, given[frame]) for frame in old)):
                if frame < with_memory:
                    output.pop("maskmem_features", None)
                    output.pop("maskmem_pos_enc", None)
            for output in (*passed.values(), *given.values()):
                output.pop("high_res_masks", None)
                output.pop("pred_masks", None)
        for per_object in (self.mask_inputs_per_obj, self.frames_tracked_per_obj):
            for by_frame in per_object.values():
                by_frame.clear()
        self.obj_id_to_tracker_score_frame_wise.clear()
        self.suppressed_obj_ids.clear()
