"""OVIS (Qi et al., IJCV 2022): long, heavily occluded videos; 25 categories, reported without base and novel.

{data root}/ovis/annotations_train.json   annotations_valid.json   annotations_test.json
{data root}/ovis/{train,valid,test}/{video}/img_{frame}.jpg          (or with JPEGImages between)
"""

from __future__ import annotations

from harness.datasets.youtube_vis_format import Release, Split, VisDataset


def _split(name: str, folder: str, videos: int) -> Split:
    file = f"annotations_{folder}.json"
    release = Release("public release", (file, f"annotations/{file}", f"annotations/{folder}.json", f"{folder}.json"))
    return Split(name, (release,), (f"{folder}/JPEGImages", folder), public=name == "train", videos=videos)


PLUGIN = VisDataset(
    name="ovis",
    title="OVIS",
    summary="Occluded VIS: 901 long videos, 25 categories, AP by degree of occlusion",
    declared=(_split("train", "train", 607), _split("val", "valid", 140), _split("test", "test", 154)),
    default_split="val",
    folders=("ovis", "OVIS"),
    category_list="ovis",
    protocol="ovis",
    home="https://songbai.site/ovis/",
    server="the dataset's CodaLab server, linked from https://songbai.site/ovis/",
    spellings={"Vehical": "Vehicle"},
)
