"""OVIS (Qi et al., IJCV 2022): long, heavily occluded videos; 25 categories, reported without base and novel.

{data root}/ovis/annotations_train.json   annotations_valid.json   annotations_test.json   validGT.json
{data root}/ovis/{train,valid,test}/{video}/img_{frame}.jpg          (or with JPEGImages between)

The truth of the validation videos has been public since 2026, in a separate file that users name ``validGT.json``.
"""

from __future__ import annotations

from harness.datasets.completeness import CountSource
from harness.datasets.youtube_vis_format import Release, Split, TruthPlace, VisDataset

HOME = "https://songbai.site/ovis/"
STATED = CountSource("stated in Liu et al., InstMove, CVPR 2023", "2026-11-28")
PUBLIC = CountSource("qjy981010/CMaskTrack-RCNN #9", "2026-02-22")
SERVER = f"the dataset's CodaLab server, linked from {HOME}"
TRUTHS = {
    "train": TruthPlace("public", ""),
    "val": TruthPlace(
        "public", "get validGT.json, in the dataset's download, and put it next to the other files", PUBLIC
    ),
    "test": TruthPlace("closed server", SERVER, CountSource("qjy981010/CMaskTrack-RCNN #9", "2026-02-02")),
}


def _split(name: str, folder: str, videos: int) -> Split:
    file = f"annotations_{folder}.json"
    places = (file, f"annotations/{file}", f"annotations/{folder}.json", f"{folder}.json", f"annotation_{folder}.json")
    releases = [Release("public release", places)]
    if name == "val":
        releases.insert(0, Release("validation truth", ("validGT.json", "annotations/validGT.json")))
    frames = (f"{folder}/JPEGImages", folder, f"Images/{folder}")
    return Split(name, tuple(releases), frames, name == "train", videos=videos, source=STATED, truth=TRUTHS[name])


PLUGIN = VisDataset(
    name="ovis",
    title="OVIS",
    summary="Occluded VIS: 901 long videos, 25 categories, AP by degree of occlusion",
    declared=(_split("train", "train", 607), _split("val", "valid", 140), _split("test", "test", 154)),
    default_split="val",
    folders=("ovis", "OVIS"),
    category_list="ovis",
    protocol="ovis",
    home=HOME,
    spellings={"Vehical": "Vehicle"},
)
