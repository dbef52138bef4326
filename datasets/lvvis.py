"""LV-VIS (Wang et al., ICCV 2023): 1196 categories; base are those of COCO and of LVIS frequent and common.

    {data root}/lvvis/train_instances_.json   val_instances_.json   test_instances.json
    {data root}/lvvis/{train,val,test}/JPEGImages/{video}/{frame}.jpg

Files with a trailing underscore are the corrected release, which published numbers use.
"""

from __future__ import annotations

from harness.datasets.completeness import CountSource
from harness.datasets.youtube_vis_format import Release, Split, TruthPlace, VisDataset

PAPER = CountSource("Wang et al., ICCV 2023", "2023-10-01")
FILES = CountSource("the corrected release's files", "2026-09-01", of_release=True)
SERVER = "Codabench competition 1748, https://www.codabench.org/competitions/1748"


def _release(label: str, split: str, file: str, tracks: int | None = None) -> Release:
    places = (file, f"{split}/{file}", f"annotations/{file}", f"Annotations/{file}")
    return Release(label, places, tracks, superseded=label == "first release", source=FILES)


def _frames(split: str) -> tuple[str, ...]:
    return (f"{split}/JPEGImages", f"JPEGImages/{split}", "JPEGImages")


PLUGIN = VisDataset(
    name="lvvis",
    title="LV-VIS",
    summary="Large-vocabulary VIS: 4828 videos, 1196 categories, 641 base and 555 novel",
    declared=(
        Split(
            "train",
            (
                _release("corrected release", "train", "train_instances_.json", 15_967),
                _release("first release", "train", "train_instances.json"),
            ),
            _frames("train"),
            public=True,
            videos=3083,
            source=PAPER,
        ),
        Split(
            "val",
            (
                _release("corrected release", "val", "val_instances_.json", 3719),
                _release("first release", "val", "val_instances.json"),
            ),
            _frames("val"),
            public=True,
            videos=837,
            frame_count=19_139,
            source=FILES,
        ),
        Split(
            "test",
            (
                _release("corrected release", "test", "test_instances_.json"),
                _release("first release", "test", "test_instances.json"),
            ),
            _frames("test"),
            public=False,
            videos=908,
            source=PAPER,
            truth=TruthPlace("server", SERVER, CountSource("haochenheheda/LVVIS, README", "2026-11-28")),
        ),
    ),
    default_split="val",
    folders=("lvvis", "LVVIS", "LV-VIS"),
    category_list="lvvis",
    protocol="lvvis",
    home="https://github.com/haochenheheda/LVVIS",
    server=SERVER,
    # Names in the released files are whole paths, some with backslashes: only video and frame count.
    frame_depth=2,
)
