"""Configuration of OV2Seg: inference, one flag per quirk of the official code, the text classifier, and training.

Defaults reproduce the official code. Backbone, decoder depth, queries and sizes are inferred from the checkpoint, not
set; the number of classes is the length of the vocabulary. Behaviour without a sensible alternative has no flag: an
absent object is an empty mask, never null; a query whose whole attention mask is blocked attends everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from harness.baselines.ov2seg.released_classifiers import digests
from harness.config import BY_NAME
from harness.models.mask2former.criterion_config import CriterionConfig

CLIP: Literal["clip"] = "clip"


class Ov2SegConfig(BaseModel):
    """Settings of OV2Seg, all of them for inference."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    short_edge: int | None = Field(default=None, ge=32)
    """Frames are resized so that their shorter edge has this many pixels (default: the checkpoint's, else
    480), ..."""
    long_edge: int = Field(default=1333, ge=32)
    """... and then so that the longer has at most this many."""
    window: int = Field(default=10, ge=1)
    """Frames that go through the network at once; bounds memory. Results change by rounding only, unless an attention
    cell's mask logit is 0 within rounding; the same holds where a window is halved because memory runs out."""
    mask_memory_mb: int = Field(default=1024, ge=0)
    """Mask logits kept until tracks are chosen; what exceeds it is encoded early, for all queries. Same results."""
    graphs: Literal["off", "on", "auto"] = Field(default="off", exclude=True)
    """Replay pixel decoder and decoder as a CUDA graph per size; ``auto``: where that is faster in the first windows.
    No effect on a CPU. Not yet run on a GPU."""
    detections_per_video: int = Field(default=50, ge=1)
    """Tracks reported per video (top k over queries and classes)."""

    text_classifier: Annotated[Literal["clip"] | Path, BY_NAME] = CLIP
    """Embeddings of the categories: ``clip``, computed with a CLIP text tower, a different model than the published
    one; or a released ``.npy`` file, or the folder of these files, from which the dataset's own is taken."""
    clip_model: str = "ViT-B-32-quickgelu"
    """open_clip name of the text tower; its embeddings are of the checkpoint's size."""
    clip_pretrained: Annotated[str, BY_NAME] = "openai"
    """open_clip tag or local file of its weights."""

    memory_weight: float = Field(default=0.7, gt=0, le=1)
    """Share of the current frame in the memory. 1 matches with the previous frame only."""
    object_score: bool = True
    """Ablation: off, a track's score has no object score."""
    mask_score: bool = True
    """Ablation: off, a track's score has no mean confidence of its masks."""

    padding_counts: bool = True
    """QUIRK: the padded border takes part in attention and mask scores. Off: it is left out."""
    normalise_memory: bool = False
    """QUIRK: the memory is a mean of unnormalised embeddings. On: of unit ones, and itself normalised."""
    remember_absent_frames: bool = True
    """QUIRK: the memory is also updated in frames where a query's mask is empty. Off: it is not."""
    classify_memory: bool = False
    """QUIRK: a video's classes come from logits averaged over its frames. On: from the memory after its last frame,
    as the paper says."""
    sigmoid_of_classes: bool = True
    """QUIRK: each class has a separate (sigmoid) probability. Off: a softmax over the classes and the zero column."""
    suppress_frames: bool = True
    """QUIRK: frames whose score is below a tenth of the track's lose their mask."""
    mask_score_over_video: bool = True
    """QUIRK: mask confidence is a mean over the pixels of all frames jointly. Off: the mean of the frames' means, over
    frames that have a mask."""
    mask_score_at_output: bool = False
    """QUIRK: mask scores are taken at stride 4. On: at the size of the output, as the image model does."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def text_classifier_sha256(self) -> dict[str, str]:
        """SHA-256 of the classifier files by name: their content, not their path, belongs to a run's identity."""
        return {} if isinstance(self.text_classifier, str) else digests(self.text_classifier)


class Ov2SegTrainingConfig(CriterionConfig):
    """Initial weights, sizes and losses of an OV2Seg training; sizes are those of the released model."""

    backbone_blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    """Blocks of the ResNet's stages: ResNet-50's."""
    backbone_width: int = Field(default=64, ge=4)
    """Channels of its stem."""
    backbone_weights: Path | None = None
    """File of its weights, named as in the released checkpoint; without it the ResNet is trained from scratch."""
    text_classifier: Literal["clip"] | Path = CLIP
    """Embeddings of the training set's categories; as at inference."""
    clip_model: str = "ViT-B-32-quickgelu"
    """open_clip name of the text tower."""
    clip_pretrained: str = "openai"
    """open_clip tag or local file of its weights."""
    embed_dim: int = Field(default=512, ge=1)
    """Size of the text embeddings."""
    decoder_layers: int = Field(default=6, ge=1)
    queries: int = Field(default=100, ge=1)
    dim: int = Field(default=256, ge=32, multiple_of=32)
    heads: int = Field(default=8, ge=1)
    feedforward: int = Field(default=2048, ge=1)
    encoder_layers: int = Field(default=6, ge=1)
    encoder_feedforward: int = Field(default=1024, ge=1)
    inference_short_edge: int = Field(default=480, ge=32)
    """Default shorter edge of frames at inference, stored with the weights."""
    weights: Literal["fp32", "fp16"] = "fp32"
    """Number format of the exported weights."""
