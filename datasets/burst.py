"""BURST (Athar et al., WACV 2023), scored as AP: 482 LVIS categories; base are frequent and common, novel rare.

    {data root}/burst/annotations/{val,test}/all_classes.json    train/train.json
    {data root}/burst/annotations/info/class_split.json          (optional: common and uncommon categories)
    {data root}/burst/frames/{train,val,test}/{source dataset}/{sequence}/{frame}.jpg

The truth of all splits is public. BURST's own form is converted in memory; frames without annotations are not read.
"""

from __future__ import annotations

from harness.datasets.completeness import CountSource
from harness.datasets.youtube_vis_format import Release, Split, TruthPlace, VisDataset

HOME = "https://github.com/Ali2500/BURST-benchmark"
PAPER = CountSource("Athar et al., WACV 2023", "2023-01-03")
AUTHOR = CountSource("its author on the released file, Ali2500/BURST-benchmark #8", "2023-07-19", of_release=True)
_FOLDERS = ("annotations/", "")
TAO = CountSource("TAO's test videos, on which it is built; not verified", "2026-11-28")


def _split(
    name: str, videos: int, source: CountSource, other: int | None = None, other_source: CountSource | None = None
) -> Split:
    """The place of a split; ``other`` is another number of videos in circulation."""
    file = "train.json" if name == "train" else "all_classes.json"  # of annotations.zip: BURST-benchmark #12
    files = tuple(f"{folder}{name}/{f}" for f in dict.fromkeys((file, "all_classes.json")) for folder in _FOLDERS)
    converted = tuple(f"{folder}{inner}b2y_{name}.json" for folder in _FOLDERS for inner in ("", f"{name}/"))
    releases = (
        Release("public release", files),
        Release("converted to YouTube-VIS form", converted),
    )
    frames = (f"frames/{name}", f"images/{name}", name)
    truth = TruthPlace("public", "", CountSource(f"the annotations of {HOME}", "2026-11-28"))
    return Split(name, releases, frames, True, videos, None, other, source, other_source, truth)


PLUGIN = VisDataset(
    name="burst",
    title="BURST",
    summary="BURST: 2914 sequences, 482 categories, 386 base and 96 novel, 78 common and 404 uncommon",
    declared=(
        _split("train", 500, PAPER),
        _split("val", 988, AUTHOR, 993, PAPER),
        _split("test", 1421, PAPER, 1419, TAO),
    ),
    default_split="val",
    folders=("burst", "BURST"),
    category_list="burst",
    protocol="burst",
    home=HOME,
    # Category numbers are positions in the file that was converted, so that file's own list rules.
    file_categories=True,
)
