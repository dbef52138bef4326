"""Runs a command as a process group of its own, and ends all of it when our standard input closes.

That happens when the harness closes it, and also when the harness itself is killed: no command is left behind. This
file is started as a program, by path, without the rest of the harness: python watch.py GRACE_SECONDS COMMAND...
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
    """Run ``command`` and return its exit code; nothing of its group is left when this returns."""
    with suppress(AttributeError, OSError):  # Linux only: what the command leaves is ours to collect, not init's
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
    end(child.pid, grace_s, collect=True)  # what the command started and did not wait for
    return code if code >= 0 else 128 - code


def end(group: int, grace_s: float, collect: bool = False) -> None:
    """Ask all processes of a group to end, and kill those that are there ``grace_s`` seconds later.

    With ``collect`` dead ones that have become our children are taken off the process table; until somebody does that
    they count as there. The command itself is `main`'s to wait for, so that has to be over by then.
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
    """Send a signal (0: none) to a group; whether there is such a group."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # on macOS the latter says that only dead processes are in it
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
