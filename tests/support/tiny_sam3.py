"""A tiny SAM 3 with random weights, the smallest of transformers' own classes, saved as a checkpoint is.

Its tokenizer is made up here too: the letters, without merges. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIZE, PATCH = 56, 14
GRID = SIZE // PATCH
DIM = 128  # the tracker needs a multiple of its memory's 64 channels, and more than one
SETTINGS: dict[str, Any] = {
    "low_res_mask_size": 4 * GRID, "score_threshold_detection": 0.2, "new_det_thresh": 0.25, "assoc_iou_thresh": 0.3,
    "trk_assoc_iou_thresh": 0.3, "recondition_every_nth_frame": 2, "high_conf_thresh": 0.25, "high_iou_thresh": 0.5,
    "hotstart_delay": 3, "hotstart_unmatch_thresh": 2, "hotstart_dup_thresh": 2, "fill_hole_area": 4,
}  # fmt: skip
"""Thresholds at which random weights find something, lose it again and remove tracks."""


def configuration(**settings: Any) -> Any:
    from transformers import Sam3VideoConfig

    backbone = {
        "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": SIZE, "patch_size": PATCH, "window_size": 2, "global_attn_indexes": [1],
        "pretrain_image_size": 28,
    }  # fmt: skip
    sizes = [[4 * GRID] * 2, [2 * GRID] * 2, [GRID] * 2]
    vision = {
        "model_type": "sam3_vision_model", "backbone_config": backbone, "fpn_hidden_size": DIM,
        "backbone_feature_sizes": sizes,
    }  # fmt: skip
    text = {
        "model_type": "clip_text_model", "vocab_size": 200, "hidden_size": 32, "intermediate_size": 32,
        "projection_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    block = {"hidden_size": DIM, "num_attention_heads": 2}
    layer = {**block, "num_layers": 1, "intermediate_size": 32}
    detector = {
        "model_type": "sam3", "vision_config": vision, "text_config": text, "mask_decoder_config": block,
        "geometry_encoder_config": {**layer, "roi_size": 2}, "detr_encoder_config": layer,
        "detr_decoder_config": {**layer, "num_queries": 5},
    }  # fmt: skip
    tracker = {
        "model_type": "sam3_tracker_video", "vision_config": vision, "image_size": SIZE,
        "prompt_encoder_config": {"hidden_size": DIM, "image_size": SIZE},
        "mask_decoder_config": {**block, "mlp_dim": 32, "iou_head_hidden_dim": 16},
        "memory_attention_hidden_size": DIM, "memory_attention_num_layers": 1, "memory_encoder_hidden_size": DIM,
        "memory_attention_feed_forward_hidden_size": 32, "memory_attention_rope_feat_sizes": [GRID, GRID],
        "mask_downsampler_embed_dim": DIM, "memory_fuser_embed_dim": DIM, "memory_fuser_intermediate_dim": 32,
        "num_maskmem": 3, "max_object_pointers_in_encoder": 4, "max_cond_frame_num": 2,
    }  # fmt: skip
    return Sam3VideoConfig(detector_config=detector, tracker_config=tracker, **{**SETTINGS, **settings})


def processor() -> Any:
    from transformers import CLIPTokenizer, Sam2VideoVideoProcessor, Sam3ImageProcessor, Sam3VideoProcessor

    letters = [chr(code) for code in range(33, 127)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    pixels = {"size": {"height": SIZE, "width": SIZE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    tokenizer = CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=32)
    return Sam3VideoProcessor(Sam3ImageProcessor(**pixels), Sam2VideoVideoProcessor(**pixels), tokenizer)


@torch.no_grad()
def save(folder: Path, seed: int = 4, **settings: Any) -> Path:
    """Write a checkpoint; ``settings`` are values of its configuration."""
    from transformers import Sam3VideoModel

    torch.manual_seed(seed)
    model = Sam3VideoModel(configuration(**settings))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
    # random objects are lost at once, unless the tracker is made to believe in them
    model.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(4.0)
    model.save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder
