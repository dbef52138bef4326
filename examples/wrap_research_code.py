"""Wraps a research repository for `harness run --model external`; runs in that repository's own environment.

Only the two lines that name `their_code` know the repository. See docs/external-models.md.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from pycocotools import mask as coco
from their_code import load_model

job = json.loads(Path(sys.argv[1]).read_text())
names = [category["name"] for category in job["vocabulary"]]
model = load_model(job["checkpoint"], device=job["device"])
tracks = []
for number, video in enumerate(job["videos"], 1):
    frames = [np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")) for path in video["frames"]]
    for found in model.segment(frames, names):  # masks (frames, height, width), position in names, score
        pixels = np.asfortranarray(found["masks"].transpose(1, 2, 0).astype(np.uint8))
        encoded = [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in coco.encode(pixels)]
        tracks.append(
            {
                "video_id": video["id"],
                "category_id": job["vocabulary"][found["label"]]["id"],
                "score": float(found["score"]),
                "segmentations": encoded,
            }
        )
    print(f"video {number} of {len(job['videos'])}: {video['name']}")
Path(job["results"]).write_text(json.dumps(tracks))
