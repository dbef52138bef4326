"""CVAT for video: tracks, frames and sizes of its XML, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from track_sets import HEIGHT, WIDTH, same, shapes

from harness.convert.cvat import read_cvat
from harness.convert.tracks import decoded
from harness.errors import UserError

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><name>clip</name><size>3</size><start_frame>10</start_frame><frame_filter>step=2</frame_filter>
<labels><label><name>cat</name></label><label><name>dog</name></label></labels>
<original_size><width>30</width><height>20</height></original_size></task></meta>
<track id="0" label="dog"><polygon frame="10" outside="0" points="2.0,2.0;12.0,2.0;12.0,12.0;2.0,12.0"/>
<polygon frame="12" outside="1" points="2.0,2.0;12.0,2.0;12.0,12.0;2.0,12.0"/></track>
<track id="1" label="cat"><box frame="14" outside="0" xtl="15" ytl="3" xbr="20" ybr="9"/></track>
<track id="2" label="dog"><mask frame="12" outside="0" rle="1, 4, 1" left="4" top="5" width="3" height="2"/></track>
<track id="3" label="dog"><points frame="12" outside="0" points="1,1"/></track>
</annotations>"""


def test_cvat_for_video(tmp_path: Path) -> None:
    file = tmp_path / "annotations.xml"
    file.write_text(CVAT)
    tracks = read_cvat(file)
    assert tracks.categories == {1: "cat", 2: "dog"}
    assert shapes(tracks) == [
        ("clip", "dog", [100, None, None]),
        ("clip", "cat", [None, None, 30]),
        ("clip", "dog", [None, 4, None]),
    ]
    assert tracks.videos[0].file_names == tuple(f"clip/frame_0000{n}.jpg" for n in (10, 12, 14))
    drawn = tracks.videos[0].tracks[2].masks[1]
    assert drawn is not None
    mask = decoded(drawn)
    assert sorted(zip(*np.nonzero(mask), strict=True)) == [(5, 5), (5, 6), (6, 4), (6, 5)]
    assert {w["kind"]: w["count"] for w in tracks.warnings.record()} == {
        "boxes are used as masks of all their pixels": 1,
        "shapes of kind points have no area and are left out": 1,
        "track without any mask is left out": 1,
    }
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.write(file, "annotations.xml")
    assert same(read_cvat(tmp_path / "export.zip"), tracks)
    (tmp_path / "clip").mkdir()
    for number in range(15):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"clip/{number}.jpg")
    assert read_cvat(file, tmp_path).videos[0].file_names == ("clip/10.jpg", "clip/12.jpg", "clip/14.jpg")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<annotations>", "<html>", "is not XML that can be read"),
        ('rle="1, 4, 1"', 'rle="1, 4"', "does not fill its box"),
        ('left="4"', 'left="29"', "does not fill its box"),
        ('xtl="15"', 'xtl="nan"', "not a finite number"),
        ('frame="14"', 'frame="13"', "frame 13 is not one of the task's"),
        ("<original_size>", "<x></x><original_sizes>", "is not XML"),
        ("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>', "declares a document type"),
        ("track", "image", "has no tracks of one video"),
        ('encoding="utf-8"', 'encoding="utf-9"', "is not XML that can be read: unknown encoding: utf-9"),
    ],
)
def test_faulty_cvat_files_are_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    (tmp_path / "a.xml").write_text(CVAT.replace(old, new))
    with pytest.raises(UserError) as error:
        read_cvat(tmp_path / "a.xml")
    assert words in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;&b;&b;">]><annotations>&d;'
    text = CVAT.replace("<annotations>", bomb).replace('encoding="utf-8"', f'encoding="{encoding}"')
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    with pytest.raises(UserError, match="declares a document type"):
        read_cvat(tmp_path / "a.xml")
