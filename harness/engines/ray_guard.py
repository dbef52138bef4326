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
from contextlib import suppress

import psutil

CALM_SECONDS = 1.0
"""So long nobody may be found: a process that is just being started has opened no file yet."""


def main() -> None:
    """Wait until the starter says that all has ended well; if its side is closed without that, it is gone."""
    starter = int(sys.argv[1])
    if sys.stdin.read():
        return
    calm_since = time.monotonic()
    while time.monotonic() - calm_since < CALM_SECONDS:
        if kill_session(starter):
            calm_since = time.monotonic()
        time.sleep(0.1)


def kill_session(starter: int) -> int:
    """Kill what belongs to the Ray that the process with this number has started; return how many processes."""
    logs = re.compile(rf"[\\/]session_[^\\/]*_{starter}[\\/]logs[\\/]")
    killed = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != starter and any(logs.search(file.path) for file in process.open_files()):
                process.kill()
                killed += 1
    return killed


if __name__ == "__main__":
    main()
