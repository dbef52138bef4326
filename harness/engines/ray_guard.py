"""A program that ends the processes of a Ray when the process that has started both is gone.

Ray's daemons end with the process that has started them, but not what they started themselves: agents try for a minute
to report it to a daemon that has ended too, and workers that are just starting try for half a minute to reach one.
Their parents are gone by then and they have overwritten their command lines and environments, but all have open files
in the logs of Ray's session, whose name ends with the number of the process that has started it
(`ray._private.node.Node`, ``session_name``).
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

CALM_SECONDS = 1.0
"""So long nobody may be found: a process that is just being started has opened no file yet."""


def main() -> None:
    """Wait until the starter says that all has ended well; if its side is closed without that, it is gone.

    The arguments are its number and the sessions that have nothing to do with it.
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
    """The processes of Rays that a process with this number has started, itself apart, and the names of their sessions.

    Numbers are used again: a cluster that lives longer than the process that has started it may be among them.
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
