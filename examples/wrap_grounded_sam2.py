"""Runs Grounded SAM 2 for `harness run --model external`: Grounding DINO finds the words, SAM 2 tracks their boxes.

It runs in that repository's own environment. The words are sought in the first frame, as in its tracking demo: objects
that appear later are not found. The job's checkpoint is SAM 2's. See docs/external-models.md.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco
from sam2.build_sam import build_sam2_video_predictor
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

SAM2_CONFIG = os.environ.get("SAM2_CONFIG", "configs/sam2.1/sam2.1_hiera_l.yaml")
DETECTOR = os.environ.get("DETECTOR", "IDEA-Research/grounding-dino-tiny")
BOX_THRESHOLD = float(os.environ.get("BOX_THRESHOLD", "0.25"))
TEXT_THRESHOLD = 0.3


def boxes_of(image, word):
    """Boxes of a word in an image and their scores; each word is a separate prompt, so that its id is known."""
    inputs = processor(images=image, text=f"{word.lower()}.", return_tensors="pt").to(device)
    outputs = detector(**inputs)
    (found,) = processor.post_process_grounded_object_detection(
        outputs, inputs.input_ids, BOX_THRESHOLD, TEXT_THRESHOLD, target_sizes=[image.size[::-1]]
    )
    return found["boxes"].cpu().numpy(), found["scores"].tolist()


def tracks_of(video, vocabulary):
    """The tracks of a video as records of a results file."""
    with Image.open(video["frames"][0]) as opened:
        image = opened.convert("RGB")
    prompts = []
    for category in vocabulary:
        boxes, scores = boxes_of(image, category["name"])
        prompts += [(box, score, category["id"]) for box, score in zip(boxes, scores, strict=True)]
    if not prompts:
        return []
    empty = np.zeros((video["height"], video["width"]), bool)
    masks = [[empty] * len(video["frames"]) for _ in prompts]
    with tempfile.TemporaryDirectory() as folder:  # SAM 2 wants a folder of files that are named by their number
        for index, path in enumerate(video["frames"]):
            Path(folder, f"{index:05d}.jpg").symlink_to(path)
        state = tracker.init_state(video_path=folder)
        for number, (box, _, _) in enumerate(prompts):
            tracker.add_new_points_or_box(state, frame_idx=0, obj_id=number, box=box)
        for frame, numbers, logits in tracker.propagate_in_video(state):
            for number, one in zip(numbers, logits, strict=True):
                masks[number][frame] = (one[0] > 0).cpu().numpy()
    return [
        {"video_id": video["id"], "category_id": category, "score": score, "segmentations": [encoded(m) for m in found]}
        for (_, score, category), found in zip(prompts, masks, strict=True)
    ]


def encoded(mask):
    """A mask in COCO's encoding, null where the object is absent."""
    if not mask.any():
        return None
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


job = json.loads(Path(sys.argv[1]).read_text())
device = job["device"]
tracker = build_sam2_video_predictor(SAM2_CONFIG, job["checkpoint"], device=device)
processor = AutoProcessor.from_pretrained(DETECTOR)
detector, info = AutoModelForZeroShotObjectDetection.from_pretrained(DETECTOR, output_loading_info=True)
detector.to(device).eval()
results = []
with (
    torch.inference_mode(),
    torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=job["precision"] == "bf16"),
):
    for number, video in enumerate(job["videos"], 1):
        results += tracks_of(video, job["vocabulary"])
        print(f"video {number} of {len(job['videos'])}: {video['name']}", flush=True)
Path(job["results"]).write_text(json.dumps(results))
needed = len(tracker.state_dict()) + len(detector.state_dict())  # SAM 2's loader refuses what does not fit
weights = {"needed": needed, "loaded": needed - len(info["missing_keys"]), "unused": sorted(info["unexpected_keys"])}
facts = {"weights": weights, "words": f"{len(job['vocabulary'])}, each a prompt of Grounding DINO"}
Path(job["results"]).with_name("facts.json").write_text(json.dumps(facts))
