"""The released text classifiers of OV2Seg: one ``.npy`` file per dataset, a row per category, made with DetPro.

They are in the LV-VIS repository (https://github.com/haochenheheda/LVVIS) under its dataset metadata; users download
them with the weights. Row i is category id i + 1 of the dataset (docs/ov2seg.md, *Text classifiers*).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from harness.input_files import refuse_odd_file
from harness.run_folder.provenance import file_digest
from harness.types import Category

RELEASED_FILES = {
    "lvvis": "fg_bg_5_10_lvvis_ens.npy",
    "lvis": "fg_bg_5_10_lvis_ens.npy",
    "coco": "fg_bg_5_10_coco_ens.npy",
    "ytvis2019": "fg_bg_5_10_ytvis19_ens.npy",
    "ytvis2021": "fg_bg_5_10_ytvis21_ens.npy",
    "ovis": "fg_bg_5_10_ovis_ens.npy",
}
"""File by the harness's name of the dataset. There is none for BURST."""
MAX_BYTES = 1 << 30
_HINT = "name a released file or their folder (`harness models show ov2seg`), or set text_classifier=clip"


def released_file(place: Path, dataset: str) -> Path:
    """Return the file for ``dataset``: ``place`` itself, or the dataset's file in the folder ``place``.

    Raises `UserError` if there is no file, and for a folder if none was released for the dataset.
    """
    if not place.is_dir():
        path = place
    elif dataset in RELEASED_FILES:
        path = place / RELEASED_FILES[dataset]
    else:
        released = ", ".join(RELEASED_FILES)
        raise UserError(str(place), f"none of the released files is for {dataset}, they are for {released}", _HINT)
    if not path.is_file():
        raise UserError(str(path), "does not exist", _HINT)
    return path


def read_rows(path: Path, categories: Sequence[Category], embed_dim: int) -> NDArray[np.float32]:
    """Return the rows of ``categories`` in their order, ``(categories, embed_dim)``, not normalised.

    Raises `UserError` for a file that is not an array of numbers, has another size or a zero or non-finite row, and if
    the category ids are not 1 to the number of rows: such a file belongs to another dataset.
    """
    rows = _read(path)
    if rows.ndim != 2 or rows.shape[1] != embed_dim:
        what = f"holds an array {rows.shape} where (categories, {embed_dim}) is needed"
        raise UserError(str(path), what, _HINT)
    ids = [category.id for category in categories]
    if sorted(ids) != list(range(1, len(rows) + 1)):
        known = f"{len(ids)} categories, ids {min(ids)} to {max(ids)}" if ids else "no category"
        what = f"has {len(rows)} rows, for ids 1 to {len(rows)}, and the vocabulary has {known}"
        raise UserError(str(path), what, "name the file of this dataset, or set text_classifier=clip")
    lengths = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(bad):
        raise UserError(f"{path}, row {bad[0]}", "is not a finite direction", _HINT)
    ordered: NDArray[np.float32] = rows[np.array(ids) - 1]
    return ordered


def digests(place: Path) -> dict[str, str]:
    """SHA-256 by name of the file ``place``, or of the released files in the folder ``place``; those that exist."""
    paths = sorted(place / name for name in RELEASED_FILES.values()) if place.is_dir() else [place]
    return {path.name: file_digest(path) for path in paths if path.is_file()}


def _read(path: Path) -> NDArray[np.float32]:
    """The array in a ``.npy`` file as float32; never unpickles."""
    try:
        refuse_odd_file(path, MAX_BYTES)
        found = np.lib.format.open_memmap(path, mode="r")  # refuses archives and pickles
        if found.dtype.kind != "f":
            raise UserError(str(path), "holds no array of floating-point numbers", _HINT)
        return np.array(found, dtype=np.float32)
    except (OSError, ValueError, EOFError, SyntaxError, TokenError, TypeError, OverflowError) as error:
        # numpy raises any of these for damaged headers and for pickles
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(str(path), f"is not a .npy file, or a broken one ({reason})", _HINT) from error
