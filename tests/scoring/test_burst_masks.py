"""Areas, boxes and shared pixels of masks against pycocotools, runs without a pixel included."""

from __future__ import annotations

import random

import numpy as np
from pycocotools import mask as coco

from harness import rle
from harness.scoring.burst_masks import TruthMasks, empty_truth, measure_masks, texts_of


def drawn(draw: random.Random, pixels: int, least: int) -> str:
    counts, left = [], pixels
    while left:
        counts.append(min(draw.choice([least, 1, 2, 5, draw.randrange(1, left + 1)]), left))
        left -= counts[-1]
    return str(coco.frPyObjects({"size": [1, pixels], "counts": counts}, 1, pixels)["counts"].decode())


def test_masks_are_measured_as_by_pycocotools() -> None:
    draw = random.Random(0)
    for case in range(300):
        height, width = draw.randint(1, 9), draw.randint(1, 9)
        least = case % 2  # every other case has runs of no length
        masks = [[drawn(draw, height * width, least) for _ in range(6)] for _ in range(2)]
        sides = [[{"size": [height, width], "counts": text.encode()} for text in side] for side in masks]
        truth = measure_masks(texts_of(masks[0]), height * width, height, *empty_truth(6))
        assert truth.area.tolist() == coco.area(sides[0]).tolist()
        assert truth.box.tolist() == coco.toBbox(sides[0]).tolist()
        assert (len(set(truth.digest.tolist())) == 6) == (len(set(masks[0])) == 6)
        here = TruthMasks(texts_of(masks[0]), truth.area, truth.box)
        # the first image has four of the predicted and two of the annotated masks, the second the others
        found = measure_masks(texts_of(masks[1]), height * width, height, here, np.array([0, 4, 6]),
                              np.array([0, 2, 6]), np.arange(6))  # fmt: skip
        pixels = [[coco.decode(mask).astype(bool) for mask in side] for side in sides]
        boxes = [np.asarray(coco.toBbox(side)) for side in sides]
        for m in range(6):
            wanted = {}
            for t in range(2) if m < 4 else range(2, 6):
                iou = float(coco.iou(boxes[1][m : m + 1], boxes[0][t : t + 1], [0])[0, 0])
                if iou:
                    wanted[t] = (int((pixels[1][m] & pixels[0][t]).sum()), iou)
                else:
                    assert not (pixels[1][m] & pixels[0][t]).any()
            near = slice(found.first[m], found.first[m + 1])
            rows = zip(
                found.truth[near].tolist(), found.shared[near].tolist(), found.box_iou[near].tolist(), strict=True
            )
            assert {t: (shared, iou) for t, shared, iou in rows} == wanted


def test_faults_have_their_codes() -> None:
    found = measure_masks(texts_of(["~~", "3", "0", "é"]), 2, 1, *empty_truth(4))
    assert found.area.tolist() == [rle.NOT_RLE, rle.OVERRUN, rle.UNDERRUN, rle.NOT_RLE]
