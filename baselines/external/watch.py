"""Runs a command in its own process group, and ends the group when standard input closes.

That happens when the harness closes it, and also when the harness is killed, so no command keeps running. This file is
started as a program, by path, without the rest of the harness: python watch.py GRACE_SECONDS COMMAND...
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import FrameType

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes of a command that could not be started, as shells have them; 128 + n means ended by signal n."""
_PR_SET_CHILD_SUBREAPER = 36


def main(grace_s: float, command: list[str]) -> int:
    """Run ``command`` and return its exit code; all processes of its group have ended by then."""
    with suppress(
        AttributeError, OSError
    ):  # Linux only: this process, not init, reaps the processes that the command leaves
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE

    def asked_to_end(signal_number: int, frame: FrameType | None) -> None:
        threading.Thread(target=end, args=(child.pid, grace_s), daemon=True).start()

    def end_with_input() -> None:
        while os.read(0, 1024):
            pass
        end(child.pid, grace_s)

    signal.signal(signal.SIGTERM, asked_to_end)
    threading.Thread(target=end_with_input, daemon=True).start()
    code = child.wait()
    end(child.pid, grace_s, collect=True)  # processes that the command started and did not wait for
    return code if code >= 0 else 128 - code


def end(group: int, grace_s: float, collect: bool = False) -> None:
    """Terminate all processes of a group, and kill those that still exist ``grace_s`` seconds later.

    With ``collect`` dead processes that have become children of this one are reaped; until then they still exist. The
    command itself must have been waited for by `main` before.
    """
    deadline = time.monotonic() + grace_s
    alive = signal_group(group, signal.SIGTERM)
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        with suppress(ChildProcessError):
            while collect and os.waitpid(-group, os.WNOHANG)[0]:
                pass
        alive = signal_group(group, 0)
    if alive:
        signal_group(group, signal.SIGKILL)


def signal_group(group: int, number: int) -> bool:
    """Send a signal (0: none) to a group; return whether the group exists."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # on macOS the latter means that only dead processes are in it
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
