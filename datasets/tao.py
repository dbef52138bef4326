"""TAO (Dave et al., ECCV 2020): boxes of 833 categories in 2907 videos; federated annotations.

    {data root}/tao/annotations/{train,validation}.json
    {data root}/tao/annotations/validation_ours_v1.json, validation_482_ours.json      (of OVTrack and of TETer)
    {data root}/tao/frames/{train,val}/{source dataset}/{video}/{frame}.jpg

The released files name LVIS 0.5 categories. TETA's authors score on files that their converter makes of them
(``tao2coco.py``, ``create_tao_v1.py``), which add ``frame_id``; open-vocabulary trackers report the validation split
with LVIS 1 categories, rare ones as novel. The test split's truth is not among TAO's files; BURST has masks of it.
"""

from __future__ import annotations

from harness.datasets.coco_video_format import BoxSplit, CocoVideoDataset


def _split(name: str, file: str) -> BoxSplit:
    endings = ("_ours_v1", "_ours", "_482_ours", "")
    return BoxSplit(name, tuple(f"annotations/{file}{ending}.json" for ending in endings))


PLUGIN = CocoVideoDataset(
    name="tao",
    title="TAO",
    summary="TAO: boxes of 833 categories in 2907 videos, federated; TETA",
    declared=(_split("train", "train"), _split("val", "validation")),
    default_split="val",
    folders=("tao", "TAO"),
    frames=("frames",),
    home="https://github.com/TAO-Dataset/tao",
)
