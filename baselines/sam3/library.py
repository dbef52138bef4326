"""The `transformers` library and a checkpoint in its format, read without running downloaded code and without network
access."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import UserError, first_line
from harness.input_files import NOTE_BYTES, decode_json, read_file, refuse_odd_file
from harness.models.shared.checkpoint_files import refuse_not_finite
from harness.types import LoadedWeights

log = logging.getLogger(__name__)

SAM3_INSTALL = 'pip install "ovvis-harness[sam3]"'
KIND = "sam3_video"
_HINT = "give the folder of facebook/sam3 as checkpoint (`harness models show sam3`)"


def library() -> Any:
    """The module `transformers`; raises `UserError` if it is missing, broken, or has no SAM 3 for videos."""
    try:
        transformers = importlib.import_module("transformers")
        # Classes are imported when they are first asked for, with all that they need.
        known = hasattr(transformers, "Sam3VideoModel") and hasattr(transformers, "Sam3VideoProcessor")
    except ModuleNotFoundError as error:
        if error.name == "transformers":
            raise UserError("sam3", "needs the library transformers, which is not installed", SAM3_INSTALL) from error
        raise UserError("sam3", f"transformers cannot be imported: {error}", SAM3_INSTALL) from error
    except (ImportError, RuntimeError) as error:  # the library raises either if a part of it cannot be imported
        raise UserError("sam3", f"transformers cannot be imported: {first_line(error)}", SAM3_INSTALL) from error
    if not known:
        what = f"transformers {transformers.__version__} is too old, it has no SAM 3 for videos"
        raise UserError("sam3", what, f"{SAM3_INSTALL} --upgrade")
    return transformers


def check_folder(folder: Path) -> None:
    """Raise `UserError` for a folder without a SAM 3 video model in the format of `transformers`."""
    if not folder.is_dir():
        raise UserError(str(folder), "is not a folder" if folder.exists() else "does not exist", _HINT)
    if later := sorted(file.name for file in folder.glob("sam3.1*")):
        what = f"holds weights of SAM 3.1 ({later[0]}), for which transformers {library().__version__} has no model"
        raise UserError(str(folder), what, f"{_HINT}, or run the authors' code with the model external")
    path = folder / "config.json"
    try:
        document = decode_json(read_file(path, NOTE_BYTES, is_text=True))
    except FileNotFoundError:
        raise UserError(str(path), "is missing", _HINT) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise UserError(str(path), f"cannot be read ({first_line(error)})", _HINT) from error
    kind = document.get("model_type") if isinstance(document, dict) else None
    if kind != KIND:
        raise UserError(str(path), f"is of a model of type {kind!r}, not {KIND!r}", _HINT)
    for file in folder.iterdir():
        if not file.is_dir():
            refuse_odd_file(file)
    if not any(folder.glob("*.safetensors")):
        raise UserError(str(folder), "holds no weights in .safetensors", f"other formats are not read; {_HINT}")


def load_part(kind: Any, folder: Path) -> tuple[Any, LoadedWeights]:
    """Load a model of class ``kind``, in float32 whatever the file's type; also returns how its weights were loaded.

    Tensors that the model does not know are counted in the log. Raises `UserError` for tensors that are missing or
    misshapen, and broken files.
    """
    try:
        with _quiet():
            model, info = kind.from_pretrained(
                str(folder),
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below
                dtype="float32",
                attn_implementation="sdpa",  # a configuration could name a kernel with downloaded code
            )
    # The library passes on any exception of configuration classes, safetensors and torch for damaged files.
    except Exception as error:
        raise UserError(str(folder), f"cannot be loaded: {first_line(error)}", _HINT) from error
    for fault in ("missing_keys", "mismatched_keys"):
        names = sorted(str(name[0] if isinstance(name, tuple) else name) for name in info[fault])
        if names:
            what = f"{len(names)} tensors are {fault.removesuffix('_keys')} ({', '.join(names[:3])})"
            raise UserError(str(folder), what, _HINT)
    for name, parameter in model.named_parameters():
        refuse_not_finite(parameter, name, folder, _HINT)
    needed, unused = len(model.state_dict()), tuple(sorted(map(str, info["unexpected_keys"])))
    if unused:
        log.warning("%s: %s tensors are unused, first: %s", folder, len(unused), unused[0])
    return model, LoadedWeights(needed, needed, unused)


def load_processor(kind: Any, folder: Path) -> Any:
    """Load the processor saved with the weights; raises `UserError` where it cannot be read."""
    try:
        return kind.from_pretrained(str(folder), local_files_only=True)
    # As above: the exception for a missing or damaged file depends on the file.
    except Exception as error:
        raise UserError(str(folder), f"its processor cannot be loaded: {first_line(error)}", _HINT) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the library's progress bars and its report of tensors."""
    library_log = importlib.import_module("transformers.utils.logging")
    level, has_bars = library_log.get_verbosity(), library_log.is_progress_bar_enabled()
    library_log.set_verbosity_error()
    library_log.disable_progress_bar()
    try:
        yield
    finally:
        library_log.set_verbosity(level)
        if has_bars:
            library_log.enable_progress_bar()
