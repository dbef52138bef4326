"""YouTube-VIS 2019, 2021 and 2022 (Yang et al., ICCV 2019): 40 categories each.

    {data root}/ytvis2019/{train,valid,test}.json          {data root}/ytvis2021/{train,valid,test}/instances.json
    {data root}/ytvis2019/{train,valid,test}/JPEGImages/{video}/{frame}.jpg         (2021 and 2022 alike)

The ids of 2019 and 2021 have other meanings; 2022 has the categories of 2021, and adds long videos to its validation
and test videos. Base and novel follow the id lists that OVFormer uses (7 novel in 2019, 6 in 2021 and 2022).
"""

from __future__ import annotations

from harness.datasets.completeness import CountSource
from harness.datasets.youtube_vis_format import Release, Split, TruthPlace, VisDataset

HOME = "https://youtube-vos.org/dataset/vis/"
SITE = CountSource(f"the dataset's page, {HOME}", "2026-11-28", of_release=True)
SERVER = "the dataset's CodaLab server, linked from https://youtube-vos.org/dataset/vis/"
CLOSED = CountSource(
    "submissions ended on 31 December 2025: codalab/codalab-competitions #3625 and #3627", "2026-01-22"
)
_CLOSED_SERVER = TruthPlace("closed server", SERVER, CLOSED)


def _split(name: str, folder: str, videos: int, year: int) -> Split:
    own, renamed = f"{folder}.json", f"{folder}/instances.json"
    names = (own, renamed) if year == 2019 else (renamed, own)
    release = Release(f"{year} release", (*names, f"annotations/{own}", f"{folder}/{own}"))
    public = name == "train"
    truth = TruthPlace("public", "", SITE) if public else _CLOSED_SERVER
    frames = (f"{folder}/JPEGImages", folder)
    return Split(name, (release,), frames, public, videos=videos, source=SITE, truth=truth)


def _dataset(year: int, train: int, val: int, test: int, groups: str, other_words: tuple[str, ...] = ()) -> VisDataset:
    return VisDataset(
        name=f"ytvis{year}",
        title=f"YouTube-VIS {year}",
        summary=f"YouTube-VIS {year}: {train + val + test} videos, 40 categories, {groups}",
        declared=(
            _split("train", "train", train, year),
            _split("val", "valid", val, year),
            _split("test", "test", test, year),
        ),
        default_split="val",
        folders=(f"ytvis{year}", f"ytvis_{year}", f"YouTubeVIS{year}", f"youtube_vis_{year}"),
        category_list=f"ytvis{year}",
        protocol="ytvis",
        home=HOME,
        other_words=other_words,
    )


YTVIS2019 = _dataset(2019, train=2238, val=302, test=343, groups="33 base and 7 novel")
YTVIS2021 = _dataset(2021, train=2985, val=421, test=453, groups="34 base and 6 novel", other_words=("2022", "22"))


def _long_split(name: str, folder: str) -> Split:
    files = (f"{folder}.json", f"{folder}/instances.json", "instances.json", f"annotations/{folder}.json")
    frames = (f"{folder}/JPEGImages", folder, f"{name}/JPEGImages", name)
    truth = TruthPlace("withheld", "", CountSource("no source says where it is if the file lacks it", "2026-11-28"))
    release = Release("2022 release", files if name == "val" else (*files[:2], files[3]))
    return Split(name, (release,), frames, public=False, truth=truth)


YTVIS2022 = VisDataset(
    name="ytvis2022",
    title="YouTube-VIS 2022",
    summary="YouTube-VIS 2022: the videos of 2021 and long ones, 40 categories, 34 base and 6 novel; sizes not known",
    declared=(_long_split("val", "valid"), _long_split("test", "test")),
    default_split="val",
    folders=("ytvis2022", "ytvis_2022", "YouTubeVIS2022", "youtube_vis_2022"),
    category_list="ytvis2021",
    protocol="ytvis",
    home=HOME,
    path_words=("2022", "22"),
)
