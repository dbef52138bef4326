"""Checkpoint files: read without running code, and compared with the model before loading."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from harness.errors import UserError, first_line
from harness.first_bytes import FIRST_BYTES, foreign_file, pickle_file
from harness.input_files import UNBOUNDED, open_file
from harness.models.shared.inert_pickle import (
    LongPickleError,
    as_tensors,
    read_pickle,
    refuse_long_pickle,
    torch_globals,
)

SHORT_EDGE = "short_edge"
"""Metadata key of a ``.safetensors`` file for the shorter edge at inference, in pixels."""

CLIP_PREFIX = "backbone.clip_model."
"""Prefix of the CLIP weights in a checkpoint of CLIP-VIS."""
PIXEL_DECODER, PREDICTOR = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
"""Prefixes of Mask2Former's pixel decoder and transformer decoder in the checkpoints of CLIP-VIS and OV2Seg."""
POINTS_AND_LEVELS = 4 * 3
"""Points that a head of the pixel decoder samples: four on each of three levels."""
_CLIPVIS_HINT = "use a checkpoint of CLIP-VIS from its authors or from `harness train`"

_INSIDE = ("model", "state_dict", "model_state_dict", "model_state")
"""Keys of the weights in training checkpoints; the first one that exists is used."""
_LIGHTNING = "pytorch-lightning_version"
_PREFIXES, _LIGHTNING_PREFIXES = ("_orig_mod.", "module."), ("_orig_mod.", "module.", "model.")
"""Those of torch.compile, of several GPUs, and of Lightning."""
_OLD_FORMAT = bytes.fromhex("6cfc9c46f9206aa850192e")
"""The magic number of PyTorch's files before version 1.6, as pickled."""
_PICKLES_OF_OLD_FORMAT = 4
"""Pickles before the weights in such a file: magic number, version, machine, tensors."""
_SHARED_TIMES = 2
"""A file may hold a tensor and parts of it, such as queries, keys and values, under different names."""
MOST_NAMES = 100_000
"""Most tensors of a checkpoint."""
_LARGEST_HEADER = 100_000_000
"""Most bytes of the header of a ``.safetensors`` file, as its library has it."""
_AGAIN = "download or copy it again, and compare its size"

StateDict = dict[str, Tensor]


def read_tensors(path: Path, hint: str) -> StateDict:
    """Read the tensors of a ``.safetensors``, ``.pth`` or ``.pkl`` file, as float32; plain, or under one of `_INSIDE`.

    Arrays of numpy become tensors. Prefixes that training adds to all names (``module.``, Lightning's ``model.``) are
    removed. The versions in a module's state (``_metadata``) are kept. Raises `UserError` for a file that is absent,
    broken, of another kind, or would run code; its hint is ``hint`` or a more specific one.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(str(path), what, "give the path of a file as checkpoint")
    document = _read(path, hint)
    document = document if isinstance(document, dict) else {}
    inner = next((document[key] for key in _INSIDE if key in document), document)
    if not isinstance(inner, dict) or not inner or not all(isinstance(v, Tensor) for v in inner.values()):
        what = "is not a dictionary of tensors, plain or under `model` or `state_dict`"
        keys = [str(key)[:40] for key in list(document)[:4]]
        raise UserError(str(path), f"{what}{f'; its keys are {_some(keys)}' if keys else ''}", hint)
    _refuse_claims(inner, path, hint)
    prefixes = _LIGHTNING_PREFIXES if _LIGHTNING in document else _PREFIXES
    floats: dict[Any, Tensor] = {}
    state = OrderedDict((str(name), _as_float(t, floats)) for name, t in inner.items())
    told = getattr(inner, "_metadata", None)
    return _without_prefixes(state, told if isinstance(told, dict) else {}, prefixes)


def _without_prefixes(state: StateDict, metadata: Mapping[Any, Any], prefixes: tuple[str, ...]) -> StateDict:
    """The tensors, without the prefixes that all names have, and with the ``metadata`` of their modules, if any."""
    while prefix := next((one for one in prefixes if all(name.startswith(one) for name in state)), None):
        state = OrderedDict((name.removeprefix(prefix), tensor) for name, tensor in state.items())
        metadata = {str(name).removeprefix(prefix): told for name, told in metadata.items() if name}
        prefixes = tuple(one for one in prefixes if one != prefix)  # the model may have a part of that name
    if metadata:
        state._metadata = OrderedDict(metadata)  # type: ignore[attr-defined]  # where PyTorch looks for it
    return state


def _read(path: Path, hint: str) -> Any:
    """The content of a checkpoint file of any supported kind.

    Raises `UserError` for files of other kinds, recognised by their first bytes, and for truncated ones.
    """
    with open_file(path, UNBOUNDED) as file:
        head = file.read(FIRST_BYTES)
    if not head:
        raise UserError(str(path), "is empty", _AGAIN)
    kind = foreign_file(head)
    if kind is not None:
        raise UserError(str(path), f"is {kind.what}", kind.hint)
    if not head.strip(b"\0"):
        raise UserError(str(path), "begins with zeros only: it is damaged, or its download has not ended", _AGAIN)
    if head.startswith(b"PK\3\4"):
        if not _is_zip(path):
            raise UserError(str(path), "is truncated: the end of a PyTorch checkpoint is missing", _AGAIN)
        return _read_torch(path, hint)
    if _is_safetensors(head):
        return _read_safetensors(path, hint)
    if pickle_file(head):
        return _read_torch(path, hint) if _OLD_FORMAT in head[:64] else _read_pickle(path)
    if head.startswith(b"\x1f\x8b"):
        raise UserError(str(path), "is a gzip file", "unpack it")
    if head.startswith((b"(dp", b"(lp")):  # a pickle of protocol 0
        return _read_pickle(path)
    if head.isascii() and not any(byte < 32 and byte not in b"\t\n\r" for byte in head):
        raise UserError(str(path), "is a text file, not weights", hint)
    return _read_safetensors(path, hint) if path.suffix == ".safetensors" else _read_torch(path, hint)


def _is_safetensors(head: bytes) -> bool:
    """Whether a file begins as ``.safetensors`` files do: with the size of a header, and its JSON."""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _LARGEST_HEADER


def _read_pickle(path: Path) -> Any:
    """The content of a plain Python pickle, as detectron2's model zoo has them."""
    hint = "if you trust it, save its weights with torch.save({'model': tensors}, FILE)"
    try:
        return read_pickle(path)
    except LongPickleError as error:
        raise UserError(str(path), str(error), hint) from error
    except pickle.UnpicklingError as error:
        what = f"is a Python pickle of more than numbers and would run code when read ({first_line(error)})"
        raise UserError(str(path), what, hint) from error
    # As with PyTorch's files: a damaged pickle may raise any exception.
    except Exception as error:
        what = f"is a broken Python pickle, or is truncated ({first_line(error)})"
        raise UserError(str(path), what, _AGAIN) from error


def clip_inside(source: str | None) -> StateDict:
    """The CLIP weights in a checkpoint of CLIP-VIS (``.safetensors``), named as there; none for other sources."""
    if source is None or not source.endswith(".safetensors") or not Path(source).is_file():
        return {}
    return {key: t for key, t in read_tensors(Path(source), _CLIPVIS_HINT).items() if key.startswith(CLIP_PREFIX)}


def short_edge_of(path: Path, hint: str) -> int | None:
    """The shorter edge at inference in pixels, from the metadata of a ``.safetensors`` file."""
    stated = metadata_of(path).get(SHORT_EDGE)
    if stated is None:
        return None
    if not stated.isdecimal() or not 32 <= int(stated) <= 8192:
        raise UserError(str(path), f"its metadata say {SHORT_EDGE} {stated!r}, which is not a size in pixels", hint)
    return int(stated)


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of a ``.safetensors`` file, empty for other files; raises `UserError` if the file is broken."""
    try:
        with open_file(path, UNBOUNDED) as opened:
            if not _is_safetensors(opened.read(FIRST_BYTES)) and path.suffix != ".safetensors":
                return {}
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, ValueError, OSError) as error:
        hint = "give another checkpoint"
        raise UserError(str(path), f"is not a safetensors file, or a broken one ({first_line(error)})", hint) from error


def check_tensors(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path, model: str, hint: str
) -> None:
    """Raise `UserError` if tensors are missing, unexpected or misshapen for ``model``, or are not weights.

    Weights are floating point and finite, also as float32: integers are counters or quantised values.
    """
    shared = expected.keys() & found.keys()
    faults = {
        "missing": [name for name in expected if name not in shared],
        "unexpected": [name for name in found if name not in shared],
        "misshapen": [
            f"{name} {tuple(found[name].shape)} where {tuple(expected[name].shape)} is needed"
            for name in expected
            if name in shared and found[name].shape != expected[name].shape
        ],
    }
    told = [f"{len(names)} {kind} ({_some(names)})" for kind, names in faults.items() if names]
    if told:
        raise UserError(str(path), f"tensors differ from {model}: {', '.join(told)}", hint)
    for name, tensor in found.items():
        wanted = expected[name].dtype
        if wanted.is_floating_point and not tensor.is_floating_point():
            what = f"tensor {name} is of type {_type(tensor.dtype)}, the model's of {_type(wanted)}"
            raise UserError(str(path), what, hint)
        refuse_not_finite(tensor, name, path, hint)


def refuse_not_finite(tensor: Tensor, name: str, path: Path, hint: str) -> None:
    """Raise `UserError` for a tensor with infinite or NaN values: every result would be wrong."""
    wrong = int((~torch.isfinite(tensor)).sum())
    if wrong:
        raise UserError(str(path), f"tensor {name}: {wrong} of {tensor.numel()} values are not finite", hint)


def count_distinct(names: Iterable[str], pattern: str) -> int:
    """Number of distinct values of the group of ``pattern`` in the names."""
    compiled = re.compile(pattern)
    return len({match.group(1) for name in names if (match := compiled.match(name))})


def _read_safetensors(path: Path, hint: str) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        if "incomplete metadata" in str(error) or "invalid header length" in str(error):
            what = f"is not a safetensors file, or is truncated ({first_line(error)})"
            raise UserError(str(path), what, _AGAIN) from error
        raise UserError(str(path), f"is not a safetensors file, or a broken one ({first_line(error)})", hint) from error


def _read_torch(path: Path, hint: str) -> Any:
    try:
        is_zip = _is_zip(path)
        if is_zip:
            _refuse_other_archive(path, hint)
        _refuse_long_pickles(path, is_zip)
        with torch.serialization.safe_globals(torch_globals()), ExitStack() as opened:
            source: Any = path
            if path.suffix == ".safetensors":  # PyTorch goes by this suffix, and the file is no such one
                source, is_zip = opened.enter_context(open_file(path, UNBOUNDED)), False
            return as_tensors(torch.load(source, map_location="cpu", weights_only=True, mmap=is_zip))
    except UserError:
        raise
    except LongPickleError as error:
        raise UserError(str(path), str(error), hint) from error
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S{1,80}) w", str(error))
        what = f"names {named[1]} and would run code when read" if named else "is broken, or of another kind"
        raise UserError(str(path), f"is not a file of plain tensors: it {what}", hint) from error
    except Exception as error:
        # a damaged file may raise any exception; the text of those from pickle's own tables is only a number
        if isinstance(error, EOFError) or "unexpected EOF" in str(error):
            raise UserError(str(path), "is truncated", _AGAIN) from error
        told = "it is another file, or a broken one" if isinstance(error, LookupError) else first_line(error)
        raise UserError(str(path), f"cannot be read as a PyTorch checkpoint ({told})", hint) from error


def _refuse_long_pickles(path: Path, is_zip: bool) -> None:
    """Raise `LongPickleError` if PyTorch would take long for a file's pickles; other faults are left to PyTorch."""
    with suppress(ValueError), ExitStack() as opened:  # of pickletools
        if not is_zip:
            file = opened.enter_context(open_file(path, UNBOUNDED))
            for _ in range(_PICKLES_OF_OLD_FORMAT):
                refuse_long_pickle(file)
            return
        archive = opened.enter_context(zipfile.ZipFile(path))
        for entry in archive.infolist():
            if entry.filename.endswith("/data.pkl"):
                refuse_long_pickle(opened.enter_context(archive.open(entry)))


def _is_zip(path: Path) -> bool:
    """Whether the file ends as a ZIP archive does. Python's own function raises for some that are damaged."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def _refuse_other_archive(path: Path, hint: str) -> None:
    """Raise `UserError` for a ZIP that is not a checkpoint of PyTorch."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") for name in names):
        what = "is a TorchScript program, not weights alone"
        raise UserError(str(path), what, "save its weights with torch.save(torch.jit.load(FILE).state_dict(), NEW)")
    if names and not any(name.endswith("/data.pkl") for name in names):
        raise UserError(str(path), f"is a zip with other files ({_some([n[:40] for n in names])})", "unpack it")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise UserError(str(path), "is a compressed archive, which PyTorch does not write", hint)


def _refuse_claims(state: Mapping[Any, Tensor], path: Path, hint: str) -> None:
    """Refuse tensors that a file cannot hold: without values, or larger than the file (an expanded view)."""
    room = path.stat().st_size
    if len(state) > MOST_NAMES:
        raise UserError(str(path), f"holds {len(state)} tensors, and checkpoints at most {MOST_NAMES}", hint)
    views: dict[Any, int] = {}
    for name, tensor in state.items():
        if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_quantized:
            raise UserError(str(path), f"{str(name)[:200]} is not a plain tensor", hint)
        if tensor.numel() * tensor.element_size() > room:
            raise UserError(str(path), f"{str(name)[:200]} states a size larger than the file", hint)
        views[_view(tensor)] = tensor.numel() * tensor.element_size()
    if sum(views.values()) > _SHARED_TIMES * room:
        what = f"its {len(state)} tensors share values and together state more than {_SHARED_TIMES} times the file"
        raise UserError(str(path), what, hint)


def _view(tensor: Tensor) -> tuple[Any, ...]:
    """What a tensor shows of its storage: equal for tied weights."""
    place = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
    return *place, tuple(tensor.shape), tensor.stride(), tensor.dtype


def _as_float(tensor: Tensor, known: dict[Any, Tensor]) -> Tensor:
    """A tensor as float32 if it is of floating point; ``known`` are those so far by view: tied weights stay one."""
    view = _view(tensor)
    if view not in known:
        known[view] = tensor.float() if tensor.is_floating_point() else tensor
    return known[view]


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _some(names: list[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
