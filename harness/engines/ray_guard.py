"""A program that kills the processes of a Ray when the process that started both has ended.

Ray's daemons end with the process that started them, but their own children do not: agents try for a minute to report
to a daemon that has ended, and workers that are starting try for half a minute to reach one. By then their parents have
ended, and their command lines and environments are overwritten. But all of them have files open in the log folder of
Ray's session, whose name ends with the id of the process that started it (`ray._private.node.Node`, ``session_name``).
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

CALM_SECONDS = 1.0
"""The guard ends after this time without finding a process: one that is just starting has opened no file yet."""


def main() -> None:
    """Wait for the starter's message that Ray has ended; if the pipe closes without it, kill Ray's processes.

    The arguments are the starter's process id and the names of older sessions, which are left alone.
    """
    starter, others = int(sys.argv[1]), set(sys.argv[2:])
    if sys.stdin.read():
        return
    calm_since = time.monotonic()
    while time.monotonic() - calm_since < CALM_SECONDS:
        for process, session in members(starter):
            if session not in others:
                with suppress(psutil.Error):
                    process.kill()
                calm_since = time.monotonic()
        time.sleep(0.1)


def members(starter: int) -> Iterator[tuple[psutil.Process, str]]:
    """Yield the processes of every Ray that a process with this id started, except itself, with their session names.

    Process ids are reused: a cluster that outlives its starter may be among them.
    """
    logs = re.compile(rf"[\\/](session_[^\\/]*_{starter})[\\/]logs[\\/]")
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found = filter(None, (logs.search(file.path) for file in process.open_files()))
            session = next((match[1] for match in found), None)
            if session is not None and process.pid != starter:
                yield process, session


if __name__ == "__main__":
    main()
