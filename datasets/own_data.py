"""A user's own data: what an annotation file lacks to be run and scored, and groups by names or ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.datasets.completeness import CopyCounts, CopyReport, SplitReport, StatedFrame, check_frames
from harness.datasets.frame_paths import FramePaths
from harness.datasets.youtube_vis_format import found_counts, open_custom, refusals
from harness.errors import UserError
from harness.formats import lenient
from harness.formats.burst import NEITHER_SPLIT
from harness.formats.containers import read_json
from harness.formats.youtube_vis import Annotations, CategoryRecord, read_annotations
from harness.scoring import HOTA, TETA_TASKS, VEVAL
from harness.scoring.dispatch import PROTOCOL_NAMES, protocol_name
from harness.scoring.protocols import OFFICIAL, PROTOCOLS, get_protocol
from harness.types import Dataset

FORM = "see docs/adding-a-dataset.md for the form"
OWN_GROUPS = ("base", "novel", "common", "uncommon")
_RECORDS = {
    "videos": ("id", "width", "height", "file_names"),
    "categories": ("id", "name"),
    "annotations": ("id", "video_id", "category_id", "segmentations"),
}
"""Lists of an annotation file, and the keys that a run and its scoring read in every record."""


def open_own(annotations: Path, frames: Path | None, protocol: str | None, name: str | None = None) -> Dataset:
    """Open a user's own data; its name is ``name``, else the file's.

    Raises one `UserError` that lists everything missing.
    """
    if frames is not None and protocol is not None:
        try:
            return open_custom(annotations, frames, protocol_name(protocol), name)
        except UserError as error:
            found = faults(annotations, frames, protocol)
            if len(found) < 2:
                raise
            raise _all_of(annotations, found) from error
    raise _all_of(annotations, faults(annotations, frames, protocol))


def _all_of(annotations: Path, found: Sequence[str]) -> UserError:
    listed = "; ".join(found) if len(found) == 1 else "; ".join(f"({i}) {one}" for i, one in enumerate(found, 1))
    return UserError(str(annotations), f"is not ready for a run: {listed}", FORM)


def faults(annotations: Path, frames: Path | None, protocol: str | None) -> list[str]:
    """Everything that prevents running and scoring, one sentence each."""
    found = []
    if frames is None:
        found.append("frames is missing: name the folder to which file_names are relative")
    elif not frames.is_dir():
        found.append(f"frames {frames} is not a folder")
    if protocol is None:
        found.append(f"protocol is missing: one of {', '.join(OFFICIAL)}")
    try:
        raw, _ = read_json(annotations)
        document = lenient.loads(raw, str(annotations))
    except UserError as error:
        return [*found, f"{error.what}{f' ({error.hint})' if error.hint else ''}"]
    if not isinstance(document, dict):
        return [*found, "the file is not an object with videos, categories and annotations"]
    if isinstance(document.get("sequences"), list):  # BURST's form has separate checks
        return found
    for key, fields in _RECORDS.items():
        if not isinstance(document.get(key), list):
            found += [] if key == "annotations" else [f"the file has no list of {key}"]
            continue
        found += _lacking(document[key], (*fields, *_needed(protocol, key)), key)
    if protocol is not None and protocol not in PROTOCOL_NAMES:
        found.append(f'there is no protocol "{protocol}": {", ".join((*OFFICIAL, HOTA, *TETA_TASKS, VEVAL))} are')
    return found


def _needed(protocol: str | None, key: str) -> tuple[str, ...]:
    """Further keys that a protocol reads."""
    chosen = OFFICIAL.get(protocol or "")
    if chosen is None:
        return ()
    if key == "annotations":
        return chosen.needs
    if key == "categories":
        split = ("frequency", "split") if chosen.reads_split else ()
        return (*split, *(("partition",) if chosen.reads_partition else ()))
    return ()


def _lacking(records: Sequence[Any], fields: Iterable[str], key: str) -> list[str]:
    """The fields that records lack, with how many do."""
    found = []
    for field in fields:
        without = [i for i, record in enumerate(records) if not isinstance(record, dict) or record.get(field) is None]
        if without:
            found.append(f"{len(without)} of {len(records)} {key} lack {field}, first: {key}[{without[0]}]")
    return found


def check_own(annotations: Path, frames: Path | None, protocol: str | None, name: str | None = None) -> CopyReport:
    """What a user's own data holds and lacks; every frame file is checked."""
    title = name or Path(annotations).stem
    found = faults(annotations, frames, protocol)
    report = SplitReport("custom", str(annotations), "own data", "unknown", faults=tuple(found))
    try:
        read = read_annotations(Path(annotations))
    except UserError as error:
        report = replace(report, faults=tuple(found) or (str(error),))
        return CopyReport(title, str(frames or Path()), (report,), "")
    return CopyReport(title, str(frames or Path()), (checked(report, read, frames, protocol),), "")


def checked(report: SplitReport, read: Annotations, frames: Path | None, protocol: str | None) -> SplitReport:
    """A report with what annotations and their frames hold, and what a run would refuse."""
    faults = list(report.faults)
    if protocol in (*OFFICIAL, HOTA, *TETA_TASKS, VEVAL):
        faults += [fault for fault in refusals(read, str(protocol)) if not (faults and "lack" in " ".join(faults))]
    truth = "not in the file" if read.truth is None else f"in the file: {len(read.truth.records)} tracks"
    report = replace(
        report, truth=truth, found=found_counts(read), expected=CopyCounts(), faults=tuple(dict.fromkeys(faults))
    )
    if frames is None or not frames.is_dir():
        return report
    paths, stated = FramePaths(frames), []
    try:
        for video in read.videos:
            names = paths.of_video(video.file_names, f"{read.path}, video {read.stated_video(video.id)}")
            stated += [StatedFrame(one, video.height, video.width) for one in names]
    except UserError as error:
        return replace(report, faults=(*report.faults, str(error)))
    missing, truncated, resized = check_frames(frames, stated)
    notes = tuple(f"{note.kind}: {note.count}, first: {note.first}" for note in read.notes)
    return replace(
        report,
        frames=str(frames),
        missing_frames=missing,
        truncated_frames=truncated,
        resized_frames=resized,
        notes=(*report.notes, *read.remarks, *notes),
    )


def with_groups(annotations: Annotations, groups: Mapping[str, Sequence[str | int]], protocol: str) -> Annotations:
    """The annotations with groups by names or ids of categories, as the fields that ``protocol`` reads.

    If only one of base and novel is listed, the other has the remaining categories; categories in no group count in
    none. Raises `UserError` for categories that the file lacks or that are in two groups, and for protocols without
    such groups.
    """
    chosen = get_protocol(protocol) if protocol in PROTOCOLS else None
    if chosen is None or not (chosen.reads_partition or chosen.reads_split):
        hint = "score with lvvis (base, novel) or burst (common and uncommon too), or leave out the groups"
        raise UserError("groups", f"are not read by protocol {protocol}", hint)
    ids = {group: _ids(annotations, group, listed) for group, listed in groups.items()}
    every = {c.id for c in annotations.categories}
    for group, other in (("base", "novel"), ("novel", "base"), ("common", "uncommon"), ("uncommon", "common")):
        if group in ids and other not in ids:
            ids[other] = every - ids[group]
        twice = ids.get(group, set()) & ids.get(other, set())
        if twice:
            raise UserError(f"category {min(twice)}", f"is listed as {group} and as {other}", "list it in one of them")
    changed = tuple(_in_groups(c, ids, chosen.reads_partition) for c in annotations.categories)
    text = "\n".join(f"{group} {sorted(members)}" for group, members in sorted(ids.items()))
    digest = hashlib.sha256(f"{annotations.digest}\n{text}".encode()).hexdigest()
    return replace(annotations, categories=changed, digest=digest)


def _in_groups(category: CategoryRecord, ids: Mapping[str, set[int]], by_partition: bool) -> CategoryRecord:
    def first(*values: tuple[str, Any]) -> Any:
        return next((value for group, value in values if category.id in ids.get(group, ())), None)

    if by_partition:  # 0 and 1 are base, 2 and 3 are novel, others are neither
        partition = first(("base", 0), ("novel", 3))
        return replace(category, partition=-1 if partition is None else partition)
    frequency = first(("base", "f"), ("novel", "r")) or category.frequency or ""
    split = first(("common", "common"), ("uncommon", "uncommon")) or category.split or NEITHER_SPLIT
    return replace(category, frequency=frequency, split=split)


def _ids(annotations: Annotations, group: str, listed: Sequence[str | int]) -> set[int]:
    by_id = {str(annotations.stated_category(c.id)): c.id for c in annotations.categories}
    by_name = {_plain(c.name): c.id for c in annotations.categories}

    def known(one: str | int) -> int | None:
        return by_id.get(str(one), by_name.get(_plain(str(one))))

    unknown = [one for one in listed if known(one) is None]
    if unknown:
        what = f'{len(unknown)} of {len(listed)} are not names or ids of categories, first: "{unknown[0]}"'
        raise UserError(f"{annotations.path}, group {group}", what, "write them as in the annotation file")
    return {number for one in listed if (number := known(one)) is not None}


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")
