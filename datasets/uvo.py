"""UVO 1.0 (Wang et al., ICCV 2021), the dense videos: every object of three seconds at 30 frames per second.

    {data root}/uvo/VideoDenseSet/UVO_video_{train,val}_dense_with_label.json      UVO_video_{train,val}_dense.json
    {data root}/uvo/uvo_videos_dense_frames/{video}/{frame}.png

Files with labels have the 80 categories of COCO and "other"; those without have one category for everything.
"""

from __future__ import annotations

from harness.datasets.completeness import CountSource
from harness.datasets.youtube_vis_format import Release, Split, TruthPlace, VisDataset

HOME = "https://sites.google.com/view/unidentified-video-object"
KIT = CountSource("the README of the UVO 1.0 release", "2026-11-28", of_release=True)


def _split(name: str, videos: int) -> Split:
    def places(file: str) -> tuple[str, ...]:
        return f"VideoDenseSet/{file}", f"annotations/VideoDenseSet/{file}", file

    releases = (
        Release("annotations with labels", places(f"UVO_video_{name}_dense_with_label.json")),
        Release("annotations without labels", places(f"UVO_video_{name}_dense.json"), superseded=True),
    )
    frames = ("uvo_videos_dense_frames", "uvo_videos_dense_frames_jpg")
    return Split(name, releases, frames, public=True, videos=videos, source=KIT, truth=TruthPlace("public", "", KIT))


PLUGIN = VisDataset(
    name="uvo",
    title="UVO",
    summary="Unidentified Video Objects, dense: 759 videos, 81 categories, every object annotated",
    declared=(_split("train", 503), _split("val", 256)),
    default_split="val",
    folders=("uvo", "UVO", "UVOv1.0"),
    category_list="uvo",
    protocol="ytvis",
    home=HOME,
)
