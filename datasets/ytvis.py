"""YouTube-VIS 2019 and 2021 (Yang et al., ICCV 2019): 40 categories each, the same ids with other meanings.

    {data root}/ytvis2019/{train,valid,test}.json          {data root}/ytvis2021/{train,valid,test}/instances.json
    {data root}/ytvis2019/{train,valid,test}/JPEGImages/{video}/{frame}.jpg         (2021 alike)

Base and novel follow the id lists that OVFormer uses (7 novel in 2019, 6 in 2021).
"""

from __future__ import annotations

from harness.datasets.youtube_vis_format import Release, Split, VisDataset

HOME = "https://youtube-vos.org/dataset/vis/"
SERVER = "the dataset's CodaLab server, linked from https://youtube-vos.org/dataset/vis/"


def _split(name: str, folder: str, videos: int, year: int) -> Split:
    own, renamed = f"{folder}.json", f"{folder}/instances.json"
    names = (own, renamed) if year == 2019 else (renamed, own)
    release = Release(f"{year} release", (*names, f"annotations/{own}", f"{folder}/{own}"))
    return Split(name, (release,), (f"{folder}/JPEGImages", folder), public=name == "train", videos=videos)


def _dataset(year: int, train: int, val: int, test: int, groups: str) -> VisDataset:
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
        folders=(f"ytvis{year}", f"ytvis_{year}", f"YouTubeVIS{year}"),
        category_list=f"ytvis{year}",
        protocol="ytvis",
        home=HOME,
        server=SERVER,
    )


YTVIS2019 = _dataset(2019, train=2238, val=302, test=343, groups="33 base and 7 novel")
YTVIS2021 = _dataset(2021, train=2985, val=421, test=453, groups="34 base and 6 novel")
