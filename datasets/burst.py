"""BURST (Athar et al., WACV 2023), scored as AP: 482 LVIS categories; base are frequent and common, novel rare.

    {data root}/burst/annotations/{train,val,test}/all_classes.json
    {data root}/burst/annotations/info/class_split.json          (optional: common and uncommon categories)
    {data root}/burst/frames/{train,val,test}/{source dataset}/{sequence}/{frame}.jpg

The truth of all splits is public. BURST's own form is converted in memory; frames without annotations are not read.
"""

from __future__ import annotations

from harness.datasets.youtube_vis_format import Release, Split, VisDataset


def _split(name: str, videos: int, stated_videos: int | None = None) -> Split:
    release = Release("public release", (f"annotations/{name}/all_classes.json", f"{name}/all_classes.json"))
    frames = (f"frames/{name}", f"images/{name}", name)
    return Split(name, (release,), frames, public=True, videos=videos, stated_videos=stated_videos)


PLUGIN = VisDataset(
    name="burst",
    title="BURST",
    summary="BURST: 2914 sequences, 482 categories, 386 base and 96 novel, 78 common and 404 uncommon",
    declared=(_split("train", 500), _split("val", 988, 993), _split("test", 1421)),
    default_split="val",
    folders=("burst", "BURST"),
    category_list="burst",
    protocol="burst",
    home="https://github.com/Ali2500/BURST-benchmark",
    # Category numbers are positions in the file that was converted, so that file's own list rules.
    file_categories=True,
)
