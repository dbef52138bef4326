"""Configuration of CLIP-VIS: the paper's ablations, one flag per quirk of the official code; training.

Defaults reproduce the published numbers. Backbone, embedding size, decoder depth and queries are inferred from the
checkpoint, not set. The official code has a separate class count, which mislabels silently if it disagrees with the
names; here it is the length of the vocabulary. A track's category id is that of the vocabulary, which for the official
lists is the official "label + 1".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.config import BY_NAME
from harness.models.mask2former.criterion_config import CriterionConfig


class ClipVisConfig(BaseModel):
    """Settings of CLIP-VIS, all of them for inference."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    short_edge: int | None = Field(default=None, ge=32)
    """Frames are resized so that their shorter edge has this many pixels (default: the checkpoint's, else 480), ..."""
    long_edge: int = Field(default=1333, ge=32)
    """... and then so that the longer has at most this many."""
    window: int = Field(default=10, ge=1)
    """Frames that go through the network at once; bounds memory. Results change by rounding only, unless an attention
    cell's mask logit is 0 within rounding; the same holds where a window is halved because memory runs out."""
    mask_memory_mb: int = Field(default=1024, ge=0)
    """Mask logits kept until tracks are chosen; what exceeds it is encoded early, for all queries. Same results."""
    detections_per_video: int = Field(default=50, ge=1)
    """Tracks reported per video (top k over queries and classes)."""
    channels_last: bool = False
    """Use the channels-last layout in the backbone. 3 to 6 % faster on CPU; measure others with `harness bench`."""
    compile: bool = False
    """Compile the network with torch.compile, for minutes at each new size. No faster on CPU; see `harness bench`.
    Both change the last digits of results."""
    graphs: Literal["off", "on", "auto"] = Field(default="off", exclude=True)
    """Replay pixel decoder and decoder as a CUDA graph per size; ``auto``: where that is faster in the first windows.
    No effect on a CPU. Not yet run on a GPU."""

    memory_length: int = Field(default=9, ge=1)
    """T: earlier frames that queries are matched with (paper, section 3.3)."""
    topk: int = Field(default=5, ge=1)
    """K: number of these frames, the best matching ones, that decide."""
    matching: Literal["topk", "previous_frame"] = "topk"
    """Ablation: ``previous_frame`` matches with the previous frame only."""
    object_score: bool = True
    """Ablation: off, a track's score has no object score."""
    mask_iou_score: bool = True
    """Ablation: off, a track's score has no predicted mask IoU."""

    clip_model: str | None = None
    """open_clip name of the backbone, for checkpoints without CLIP weights whose shapes fit several."""
    clip_pretrained: Annotated[str | None, BY_NAME] = None
    """open_clip tag or local file of CLIP weights, for checkpoints that hold none."""
    quick_gelu: bool | None = None
    """QUIRK: OpenAI's CLIP uses x * sigmoid(1.702 x), which no checkpoint records. Default: ResNets do."""

    padding_counts: bool = True
    """QUIRK: the padded border takes part in attention, pooling means and mask scores. Off: it is left out."""
    recency_weights: bool = True
    """QUIRK: matching costs are multiplied by their position in the memory, so recent frames weigh more."""
    recency_weights_select: bool = False
    """QUIRK: the recency factor is not used to choose the K frames, nor while the memory holds fewer than K."""
    full_topk_required: bool = True
    """QUIRK: with fewer than K frames in memory the single best decides. Off: all of them do."""
    clean_names: bool = False
    """QUIRK: underscores and parentheses of class names reach the tokenizer. On: they become blanks."""
    project_empty_masks: bool = True
    """QUIRK: with ConvNeXt an empty mask pools to zero, is projected, and scores. Off: its logits are zero."""
    zero_empty_logits: bool = True
    """QUIRK: with ResNet an empty mask has all-zero logits. Off: it pools over the whole frame."""
    class_token_is_key: bool = False
    """QUIRK: with ResNet the pooled mean is the query of the attention pool but none of its keys."""
    score_absent_frames: bool = True
    """QUIRK: a score is a mean over all frames. Off: over those with a mask, if there is one."""
    image_single_root: bool = True
    """QUIRK: on images the score is one root of the product of three. Off: the nested form of videos."""
    sigmoid_of_probability: bool = True
    """QUIRK: suppression takes a sigmoid of an already normalised class probability."""
    suppress_frames: bool = True
    """QUIRK: frames whose score is below a tenth of the track's lose their mask: in effect, a low object score."""
    mask_score_at_output: bool = False
    """QUIRK: mask scores are taken at stride 4. On: at the size of the output, as the image model does."""


class ClipVisTrainingConfig(CriterionConfig):
    """Initial weights, sizes and losses of a CLIP-VIS training; sizes are those of the LVIS-trained models."""

    clip_model: str = "RN50"
    """open_clip's name of the frozen CLIP."""
    clip_pretrained: str | None = None
    """open_clip tag or local file of its weights; default: those of the released models."""
    decoder_layers: int = Field(default=6, ge=1)
    """Layers of the transformer decoder (DEC_LAYERS less one): 6 for LVIS, 9 for COCO and YouTube-VIS."""
    queries: int = Field(default=100, ge=1)
    dim: int = Field(default=256, ge=32, multiple_of=32)
    """Channels of the pixel decoder, the transformer decoder and the masks."""
    heads: int = Field(default=8, ge=1)
    feedforward: int = Field(default=2048, ge=1)
    encoder_layers: int = Field(default=6, ge=1)
    encoder_feedforward: int = Field(default=1024, ge=1)
    inference_short_edge: int = Field(default=480, ge=32)
    """Default shorter edge of frames at inference, stored with the weights."""
    weights: Literal["fp32", "fp16"] = "fp32"
    """Number format of the exported weights."""
