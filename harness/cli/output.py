"""What commands that print tables share: the command as it was given, and writing to a file that was named."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from harness.durable import write_durably
from harness.errors import UserError


def command() -> str:
    """The command line as it was given, quoted for a shell."""
    return shlex.join(["harness", *sys.argv[1:]])


def write(path: Path, text: str) -> None:
    """Write a file named on the command line; raises `UserError` where it cannot be or is no plain file."""
    if path.exists() and not path.is_file():  # renaming a file onto a device or a pipe would replace it
        raise UserError(str(path), "is not a file", "name another file with --out")
    write_durably(path, text.encode())
