"""Reads numpy arrays and numbers in pickled checkpoints without running code.

The numpy names that a pickle calls are replaced by the functions and classes here, which only record their arguments;
no other name is looked up. `read_pickle` reads files of detectron2's model zoo (``.pkl``); PyTorch's own reader gets
the same names (`GLOBALS`).
"""

from __future__ import annotations

import io
import mmap
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from harness.input_files import UNBOUNDED, open_file

_KINDS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
"""Supported numpy types: numbers and booleans."""

MOST_OBJECTS, MOST_STEPS = 100_000, 10_000_000
"""Limits of a pickle: of objects such as tensors, and of its operations. Both take seconds; checkpoints have a few
thousand tensors, with some thirty operations each."""


class LongPickleError(pickle.UnpicklingError):
    """A pickle that would take too long to read."""


class InertDtype:
    """A number type by its name, as in ``f4``; its byte order comes with its state."""

    def __init__(self, name: str, *rest: object) -> None:
        if name not in _KINDS:
            raise pickle.UnpicklingError(f"numpy's type {str(name)[:20]!r} is not a number type")
        self.name, self.order = name, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("a number type has no byte order")
        self.order = state[1].replace("|", "=")

    def values(self, raw: Any) -> Any:
        """Return a copy of the numbers in ``raw``: bytes, or the text as which bytes of Python 2 are read."""
        data = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
        return np.frombuffer(data, np.dtype(self.name).newbyteorder(self.order)).astype(self.name)  # type: ignore[arg-type]


class InertArray:
    """An array that is built from its pickled state."""

    def __init__(self) -> None:
        self.value: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, raw = state
        if not isinstance(dtype, InertDtype):
            raise pickle.UnpicklingError("an array has no number type")
        self.value = np.reshape(dtype.values(raw), shape, order="F" if is_fortran else "C")


class InertNote:
    """Replaces objects that training writes next to the weights; it holds nothing."""

    def __new__(cls, *arguments: object) -> InertNote:
        """An object without content, whatever the arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Leave out the state."""


class _ArrayType:
    """Replaces `numpy.ndarray`, which pickles name but never call."""

    def __init__(self, *arguments: object) -> None:
        raise pickle.UnpicklingError("an array is created by calling its class")


def _empty_array(kind: object, shape: object, code: object) -> InertArray:
    return InertArray()


def _array_of_buffer(raw: object, dtype: InertDtype, shape: Any, order: str) -> InertArray:
    array = InertArray()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


def _number(dtype: InertDtype, raw: object) -> Any:
    return dtype.values(raw)[0].item()


def _latin1(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocol 2 writes bytes of length 0."""
    return b""


def _bytes_of_tensors(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


_NUMPY = {
    "multiarray._reconstruct": _empty_array,
    "multiarray.scalar": _number,
    "numeric._frombuffer": _array_of_buffer,
}
GLOBALS: dict[str, Any] = {
    **{f"numpy.{core}.{name}": made for core in ("core", "_core") for name, made in _NUMPY.items()},
    "numpy.ndarray": _ArrayType,
    "numpy.dtype": InertDtype,
    "_codecs.encode": _latin1,
    "__builtin__.bytes": _no_bytes,
    "builtins.bytes": _no_bytes,
    "bytes": _no_bytes,
    "argparse.Namespace": InertNote,
    "datetime.datetime": InertNote,
    "torch.torch_version.TorchVersion": InertNote,
    **{f"pathlib.{name}": InertNote for name in ("PosixPath", "WindowsPath", "_local.PosixPath", "_local.WindowsPath")},
}
"""The replacement of each name in pickles of numpy arrays and numbers, and of settings next to weights."""
_STATES = {"harness.InertArray": InertArray}
"""Classes whose state PyTorch's reader must be allowed to set; no file names them."""
_TENSORS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": torch._utils._rebuild_parameter,
    "torch.storage._load_from_bytes": _bytes_of_tensors,
}
"""The same for tensors that Python's own ``pickle.dump`` has written."""


def torch_globals() -> list[Any]:
    """`GLOBALS` as `torch.serialization.safe_globals` takes them."""
    return [(made, name) for name, made in (GLOBALS | _STATES).items()]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return (GLOBALS | _TENSORS)[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is neither an array nor a tensor") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to data outside the file")


def read_pickle(path: Path) -> Any:
    """The content of a Python pickle of arrays, numbers and tensors, arrays as tensors.

    Raises `pickle.UnpicklingError` for a pickle with any other name; a broken one may raise any exception.
    """
    with open_file(path, UNBOUNDED) as file:
        _refuse_claims(file)
        file.seek(0)
        return as_tensors(_Unpickler(file, encoding="latin1").load())


def _refuse_claims(file: BinaryIO) -> None:
    """Refuse a pickle that claims more than it holds: Python allocates the memory before it checks.

    Such claims are lengths beyond the end of the file, and memo numbers that cannot exist yet.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        refuse_long_pickle(mapped)


def refuse_long_pickle(file: Any) -> None:
    """Scan one pickle of a file without executing it; refuse it if loading would take long.

    ``file`` has ``read`` and ``readline``, and is positioned after the pickle on return.
    """
    made = 0
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and cast(int, argument) > count:
            raise pickle.UnpicklingError("its memo has more objects than it can")
        made += operation.name in ("REDUCE", "NEWOBJ", "BUILD", "OBJ", "INST")
        if made > MOST_OBJECTS or count > MOST_STEPS:
            raise LongPickleError(f"holds more than {MOST_OBJECTS} objects, or takes more than {MOST_STEPS} steps")


def as_tensors(value: Any) -> Any:
    """``value`` with arrays converted to tensors, in dictionaries at any depth."""
    if isinstance(value, InertArray):
        if value.value is None:
            raise pickle.UnpicklingError("an array has no content")
        return torch.from_numpy(value.value)
    if isinstance(value, dict):
        for key, inner in value.items():
            value[key] = as_tensors(inner)
    return value
