"""OVT-B (Liang and Han, NeurIPS 2024): 637,608 boxes of 1048 categories in 1973 videos.

    {data root}/ovtb/ovtb_ann.json
    {data root}/ovtb/OVT-B/{source dataset}/{video}/{frame}.jpg

Its authors score it with TETA's federated variant on boxes.
"""

from __future__ import annotations

from harness.datasets.coco_video_format import BoxSplit, CocoVideoDataset
from harness.datasets.completeness import CountSource

PLUGIN = CocoVideoDataset(
    name="ovtb",
    title="OVT-B",
    summary="OVT-B: 637,608 boxes of 1048 categories in 1973 videos; TETA",
    declared=(BoxSplit("test", ("ovtb_ann.json",), videos=1973, boxes=637_608),),
    default_split="test",
    folders=("ovtb", "OVT-B-Dataset"),
    frames=("OVT-B",),
    home="https://github.com/Coo1Sea/OVT-B-Dataset",
    categories=1048,
    source=CountSource("Liang and Han, NeurIPS 2024 (arXiv 2410.17534), abstract", "2026-11-28"),
)
