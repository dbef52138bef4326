"""SA-Co/VEval (Carion et al., SAM 3): phrases asked for in videos, absent ones included, in three domains.

    {data root}/saco_veval/annotation/saco_veval_{sav,yt1b,smartglasses}_{val,test}.json
    {data root}/saco_veval/media/saco_sav/JPEGImages_24fps/{video}/{frame}.jpg
    {data root}/saco_veval/media/saco_yt1b/JPEGImages_6fps/{video}/{frame}.jpg
    {data root}/saco_veval/media/saco_sg/JPEGImages_6fps/{video}/{frame}.jpg

The annotations and the frames of SmartGlasses are on Hugging Face; those of SA-V come from the SA-V dataset
(sav_val.tar and sav_test.tar, their JPEGImages_24fps merged), those of YT-Temporal-1B from YouTube. Videos that are
gone there are taken out of the annotations by the authors' script, which writes files whose names end in ``_updated``;
frames that are extracted again may be shifted against the masks.
"""

from __future__ import annotations

from harness.datasets.youtube_vis_format import Release, Split, VisDataset

_NON_COMMERCIAL = "CC BY-NC 4.0"


def _split(domain: str, part: str, frames: str, terms: str, from_youtube: bool = False) -> Split:
    stem = f"saco_veval_{domain}_{part}"
    releases = [Release("first release", (f"annotation/{stem}.json", f"{stem}.json"))]
    if from_youtube:
        files = (f"annotation/{stem}_updated.json", f"{stem}_updated.json")
        releases.append(Release("without videos that are gone", files, superseded=True))
    return Split(f"{domain}-{part}", tuple(releases), (f"media/{frames}", frames), public=True, terms=terms)


PLUGIN = VisDataset(
    name="saco-veval",
    title="SA-Co/VEval",
    summary="SA-Co/VEval: phrases asked for in videos, absent ones too; SA-V, YT-Temporal-1B (CC BY-NC 4.0) and"
    " SmartGlasses (CC BY 4.0)",
    declared=tuple(
        split
        for part in ("val", "test")
        for split in (
            _split("sav", part, "saco_sav/JPEGImages_24fps", _NON_COMMERCIAL),
            _split("yt1b", part, "saco_yt1b/JPEGImages_6fps", _NON_COMMERCIAL, from_youtube=True),
            _split("smartglasses", part, "saco_sg/JPEGImages_6fps", "CC BY 4.0"),
        )
    ),
    default_split="sav-val",
    folders=("saco_veval", "saco-veval", "SACo-VEval"),
    category_list=None,
    protocol="veval",
    home="https://huggingface.co/datasets/facebook/SACo-VEval",
)
