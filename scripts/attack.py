"""Attacks the command line with hostile files, folders and surroundings, and prints a table of kinds and outcomes.

    python scripts/attack.py                     # a few minutes; exit code 1 if an attack succeeds
    python scripts/attack.py --fuzz 100000       # also fuzzes the readers, with this many inputs in total
    python scripts/attack.py --markdown          # the table of docs/security.md

Everything happens in a scratch folder, in the same order and with the same inputs each time. An attack fails if the
command ends within its limits of time and memory, with one of the expected exit codes, without a traceback, without
control characters on the terminal, and with exactly one error line if it refuses the input. ``--seconds`` limits the
time of all attacks together.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HARNESS = (sys.executable, "-m", "harness")
SECONDS_EACH = 60.0
"""Default of ``--patience``."""
MEMORY = (8 << 30) + (os.cpu_count() or 1) * (192 << 20)
"""Limit of a command's address space; PyTorch reserves several gigabytes, and each thread reserves unused space."""
FUZZ = ("tests/security/test_fuzz.py", "tests/security/test_fuzz_other_readers.py", "-k", "not valid_files")
"""Pytest's arguments for the fuzz tests; each test case is one reader."""
_CODES = {0: "worked", 1: "failed in words", 2: "refused", 130: "interrupted"}
_RAW = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_EVIL = "\x1b[31mred\x1b]0;title\x07\nharness: all is well"


@dataclass(frozen=True)
class Attack:
    """One attack: prepare the folder, which has copies of two finished runs in ``runs``, then start the command.

    ``prepare`` returns the command's arguments. If the first one starts with ``!``, it is a shell command line, with
    ``HARNESS`` for the command.
    """

    kind: str
    name: str
    prepare: Callable[[Path], Sequence[str | bytes]]
    codes: frozenset[int] = frozenset({0, 1, 2})
    environment: tuple[tuple[str, str], ...] = ()


class Attacks:
    """Makes the list of attacks."""

    def __init__(self, runs: Sequence[str]) -> None:
        self.run, self.other = (f"runs/{name}" for name in runs)
        self.found: list[Attack] = []

    def add(
        self,
        kind: str,
        name: str,
        arguments: str | Sequence[str | bytes],
        prepare: Callable[[Path], object] = lambda folder: None,
        codes: Sequence[int] = (1, 2),
        **environment: str,
    ) -> None:
        """Add an attack; ``RUN`` and ``OTHER`` in ``arguments`` stand for the two runs, if it is a string."""

        def prepared(folder: Path) -> Sequence[str | bytes]:
            prepare(folder)
            if not isinstance(arguments, str):
                return arguments
            text = arguments.replace("RUN", self.run).replace("OTHER", self.other)
            return [text] if text.startswith("!") else text.split()

        self.found.append(Attack(kind, name, prepared, frozenset(codes), tuple(environment.items())))


READS = {
    "table": "table RUN OTHER",
    "status": "status RUN",
    "compare": "compare RUN OTHER",
    "report": "report RUN OTHER --videos 0",
    "leaderboard": "leaderboard runs --out site",
    "export": "export RUN --format results --out out.json",
}
"""Commands that read run folders."""


def odd_files(attacks: Attacks) -> None:
    """Pipes, devices, folders, loops of links and endless or sparse files in place of files."""

    def pipe(path: Path) -> None:
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    def link(target: str) -> Callable[[Path], None]:
        def make(path: Path) -> None:
            path.unlink(missing_ok=True)
            path.symlink_to(target)

        return make

    def sparse(path: Path) -> None:
        path.write_bytes(b"{")
        os.truncate(path, 20 << 30)

    def directory(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.mkdir()

    kinds = {
        "a pipe": pipe,
        "/dev/zero": link("/dev/zero"),
        "a loop of links": link("metrics.json"),
        "a sparse file of 20 GB": sparse,
        "a folder": directory,
    }
    for what, make in kinds.items():
        for command in ("table", "status", "leaderboard"):
            file = "videos.json" if command == "status" else "metrics.json"
            place = Path(attacks.run) / file
            change = lambda folder, make=make, place=place: make(folder / place)  # noqa: E731
            codes = (0, 1, 2) if what in ("a folder", "a loop of links") else (1, 2)  # 0: it is not a run
            attacks.add("odd files", f"{file} is {what}: {command}", READS[command], change, codes)
        for option in (
            "eval --protocol lvvis --annotations X --predictions X",
            "regress RUN --baseline X",
            "run --model clipvis --dataset shapes --limit 1 --no-mlflow --checkpoint X.pth",
        ):
            file = "X.pth" if "X.pth" in option else "X"
            attacks.add(
                "odd files",
                f"{option.split()[0]} of {what}",
                option,
                lambda folder, make=make, file=file: make(folder / file),
            )


def bombs(attacks: Attacks) -> None:
    """Small files that declare large sizes or expand to large content."""

    def write(name: str, data: bytes) -> Callable[[Path], object]:
        return lambda folder: (folder / name).write_bytes(data)

    scored = "eval --protocol lvvis --annotations X --predictions X"
    bodies = {
        "100,000 levels of JSON": b"[" * 100_000 + b"]" * 100_000,
        "an integer of a million digits": b'{"videos": [{"id": ' + b"9" * 1_000_000 + b"}]}",
        "a number of exponent 10**9": b'{"videos": [{"id": 1e1000000000}]}',
        "a gzip bomb": gzip.compress(b" " * (1 << 28)),
        "invalid UTF-8": b'{"videos": "\xff\xfe\xff"}',
        "lone surrogates": b'{"videos": "\\ud800"}',
        "nothing": b"",
        "only NUL bytes": b"\0" * 4096,
        "a frame of 2**31 pixels": b'{"videos": [{"id": 1, "width": 65536, "height": 65536, "length": 1, '
        b'"file_names": ["a.jpg"]}], "annotations": [], "categories": []}',
        "a claimed length of 10**12": b'{"videos": [{"id": 1, "width": 2, "height": 2, "length": 1000000000000, '
        b'"file_names": ["a.jpg"]}], "annotations": [], "categories": []}',
    }
    for what, body in bodies.items():
        attacks.add("bombs", what, scored, write("X", body))
        attacks.add("bombs", f"{what} as a baseline", "regress RUN --baseline X", write("X", body))
    aliases = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
    )
    for what, body in {
        "a billion laughs": aliases.encode(),
        "a tag that runs code": b"!!python/object/apply:os.system ['touch pwned']",
        "deep lists": b"[" * 10_000,
    }.items():
        attacks.add("bombs", f"YAML: {what}", "table RUN --layout X.yaml", write("X.yaml", body))
    name = "run --model clipvis --dataset shapes --limit 1 --no-mlflow --checkpoint X."
    for suffix, body in (
        ("pth", b"\x80\x02cposix\nsystem\nX\x05\0\0\0touch\x85R."),
        ("pkl", b"cos\nsystem\n(S'x'\ntR."),
        ("safetensors", (1 << 62).to_bytes(8, "little") + b"{}"),
        ("pth", b"PK\x03\x04"),
        ("pth", b""),
    ):
        attacks.add("bombs", f"weights {suffix} of {len(body)} bytes", name + suffix, write(f"X.{suffix}", body))


def tampering(attacks: Attacks) -> None:
    """Run folders with changed files, with and without their checksums."""
    changes: dict[str, Callable[[Any], Any]] = {
        "text from nowhere": lambda record: {**record, "model": _EVIL, "dataset": _EVIL},
        "a formula": lambda record: {**record, "model": "=cmd|' /C calc'!A0"},
        "a script": lambda record: {**record, "model": "<script>alert(1)</script>"},
        "a huge number": lambda record: {**record, "metrics": {"AP": 1e308}},
        "no metrics": lambda record: {**record, "metrics": None},
        "other types": lambda record: {**record, "videos": "x", "metrics": []},
        "a list": lambda record: [record],
        "another format": lambda record: {**record, "format": 99},
        "a path for a protocol": lambda record: {**record, "protocol": {"name": "../../x", "version": "1"}},
    }
    for what, change in changes.items():
        for command in ("table", "leaderboard", "report", "status"):

            def tamper(folder: Path, change: Callable[[Any], Any] = change) -> None:
                path = folder / attacks.run / "metrics.json"
                path.write_text(json.dumps(change(json.loads(path.read_text()))))
                (path.parent / "SHA256SUMS").unlink()

            attacks.add("tampering", f"metrics.json has {what}: {command}", READS[command], tamper, (0, 1, 2))
    for name in ("metrics.json", "config.json", "videos.json", "failures.json", "per_category.csv", "SHA256SUMS"):
        attacks.add(
            "tampering",
            f"one byte of {name}: status",
            READS["status"],
            lambda folder, name=name: _flip(folder / attacks.run / name),
        )
    progress = {
        "seconds": 1e308,
        "work": 1e-300,
        "state": "running",
        "written": 1e308,
        "host": _EVIL,
        "pid": 1,
        "workers": [{"host": _EVIL, "device": _EVIL, "pid": 1}],
    }
    attacks.add(
        "tampering",
        "progress.json of hostile numbers and text: status",
        READS["status"],
        lambda folder: (folder / attacks.run / "progress.json").write_text(json.dumps(progress)),
        (0, 1),
    )
    failures = {"failed": [{"video_id": 1, "error": _EVIL, "details": _EVIL}]}
    attacks.add(
        "tampering",
        "failures.json with escape sequences: status",
        READS["status"],
        lambda folder: (
            (folder / attacks.run / "SHA256SUMS").unlink(),
            (folder / attacks.run / "failures.json").write_text(json.dumps(failures)),
        ),
        (0, 1),
    )


def names(attacks: Attacks) -> None:
    """Names of folders and files that are not UTF-8, or have control characters, line breaks or blanks."""
    odd = {
        "not UTF-8": b"x-\xff\xfe",
        "escape sequences": b"x-\x1b[31m\x07",
        "a line break": b"x\nharness: fine",
        "blanks and quotes": b" x  '\" ",
        "right-to-left marks": "x\u202egnp".encode(),
        "a formula": b"=1+1",
    }
    for what, name in odd.items():
        for command in READS:

            def put(folder: Path, name: bytes = name) -> None:
                shutil.copytree(folder / attacks.run, folder / os.fsdecode(name))

            words = ["leaderboard", ".", "--out", "site"] if command == "leaderboard" else READS[command].split()
            arguments = [name if word == "RUN" else attacks.other if word == "OTHER" else word for word in words]
            attacks.add("names", f"{what}: {command}", arguments, put, (0,))
        new = ["run", "--model", "oracle", "--dataset", "shapes", "--limit", "1", "--no-mlflow", "--runs-dir", name]
        attacks.add("names", f"{what}: a new run", new, codes=(0,))
        attacks.add("names", f"{what}: not there", ["table", name], codes=(2,))


def streams(attacks: Attacks) -> None:
    """Standard streams that are closed, full, or in a limited encoding; a working directory that was removed."""
    run = "run --model oracle --dataset shapes --limit 1 --no-mlflow --runs-dir new"
    for what, command in (("table", READS["table"]), ("a run", run), ("help", "--help")):
        attacks.add("streams", f"output full: {what}", f"!HARNESS {command} > /dev/full", codes=(1,))
        attacks.add("streams", f"output closed: {what}", f"!HARNESS {command} >&-", codes=(0,))
        attacks.add(
            "streams",
            f"a reader that is gone: {what}",
            f"!HARNESS {command} | true; exit ${{PIPESTATUS[0]}}",
            codes=(0,),
        )
        attacks.add("streams", f"errors closed: {what}", f"!HARNESS {command} 2>&-", codes=(0,))
        attacks.add("streams", f"errors full: {what}", f"!HARNESS {command} 2> /dev/full", codes=(0,))
        attacks.add("streams", f"ASCII only: {what}", command, codes=(0,), PYTHONIOENCODING="ascii")
        attacks.add(
            "streams", f"C locale: {what}", command, codes=(0,), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"
        )
    attacks.add(
        "streams",
        "output full: a failed gate keeps its code",
        "!HARNESS regress RUN --baseline b.json --update && HARNESS regress OTHER --baseline b.json > /dev/full",
        codes=(1, 2),
    )
    gone = "!mkdir gone; cd gone; rmdir ../gone; HARNESS"
    for command in ("table x", "run --model oracle --dataset shapes", "leaderboard ."):
        attacks.add("streams", f"working directory gone: {command}", f"{gone} {command}", codes=(2,))


def surroundings(attacks: Attacks) -> None:
    """Options of the interpreter, little memory, signals, and servers and stores that do not answer."""
    run = "run --model oracle --dataset shapes --limit 1 --runs-dir new"
    for switch in ("-O", "-OO", "-W error", "-X dev"):
        attacks.add(
            "surroundings", f"python {switch}", f"!{sys.executable} {switch} -m harness {run} --no-mlflow", codes=(0,)
        )
    attacks.add(
        "surroundings",
        "python -W error, a worker",
        f"!{sys.executable} -W error -m harness {run} --no-mlflow --workers 2",
        codes=(0,),
    )
    for signed in ("TERM", "HUP", "INT"):
        attacks.add(
            "surroundings",
            f"SIG{signed}",
            f"!timeout --foreground -s {signed} 3 {' '.join(HARNESS)} run --model oracle "
            "--dataset shapes --no-mlflow --runs-dir new --set erode_px=3; test $? -ne 137",
            codes=(0,),
        )
    attacks.add("surroundings", "no room for a log", f"!ulimit -f 1; HARNESS {run} --no-mlflow", codes=(1, 2, 153))
    attacks.add(
        "surroundings", "memory of 600 MB", f"!ulimit -v 600000; HARNESS {run} --no-mlflow", codes=(1, 2, 127, 134)
    )
    attacks.add("surroundings", "few files at once", f"!ulimit -n 16; HARNESS {run} --no-mlflow", codes=(0, 1, 2))
    attacks.add(
        "surroundings", "an MLflow server that refuses", run, codes=(0,), MLFLOW_TRACKING_URI="http://127.0.0.1:9"
    )
    attacks.add("surroundings", "a home that is not there", run + " --no-mlflow", codes=(0,), HOME="/nonexistent/x")
    attacks.add(
        "surroundings",
        "a store that is not there",
        "table s3://none/x",
        codes=(1, 2),
        AWS_ENDPOINT_URL="http://127.0.0.1:9",
        AWS_ACCESS_KEY_ID="x",
        AWS_SECRET_ACCESS_KEY="x",
        AWS_REGION="x",
    )


KINDS = (odd_files, bombs, tampering, names, streams, surroundings)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[random.Random(path.name).randrange(len(data))] ^= 1
    path.write_bytes(bytes(data))


def outcome(attack: Attack, folder: Path, seconds: float) -> tuple[str, str]:
    """Run one attack; return its result, and what is wrong with it (empty if the attack failed)."""
    arguments = attack.prepare(folder)
    given = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200", **dict(attack.environment)}
    first = arguments[0]
    if isinstance(first, str) and first.startswith("!"):
        line = first[1:].replace("HARNESS", " ".join(HARNESS))
        command: Sequence[str | bytes] = ["bash", "-c", line]
    else:
        command = [*HARNESS, *arguments]
    started = subprocess.Popen(
        command,
        cwd=folder,
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_bound,
    )
    try:
        out, err = started.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
        return "hung", f"no end after {seconds:.0f} s"
    code = started.returncode
    result = _CODES.get(code, f"code {code}")
    faults = []
    if code not in attack.codes:
        faults.append(f"exit code {code}")
    if b"Traceback (most recent" in err + out:
        faults.append("a traceback")
    if _RAW.search(err + out):
        faults.append("control characters on the terminal")
    if b"\nharness: all is well" in err + out or b"\nharness: fine" in err + out:
        faults.append("a forged line")
    if code == 2 and sum(line.startswith(b"harness:") for line in err.splitlines()) != 1:
        faults.append("no single line that says why")
    if (folder / "pwned").exists():
        faults.append("code was run")
    last = (err.strip().splitlines() or [b""])[-1].decode(errors="replace")
    return result, f"{', '.join(faults)}: {last}" if faults else ""


def _bound() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def fuzzed(inputs: int, seconds: float) -> tuple[Counter[str], list[str]]:
    """Fuzz all readers with ``inputs`` inputs in total; return the number of inputs by outcome, and the errors."""
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *FUZZ]
    listed = subprocess.run([*test, "--collect-only"], cwd=ROOT, capture_output=True, text=True, check=True)
    readers = listed.stdout.count("::")
    each = max(1, -(-inputs // readers))
    began = time.monotonic()
    try:
        done = subprocess.run(
            test,
            cwd=ROOT,
            env={**os.environ, "HARNESS_FUZZ_EXAMPLES": str(each)},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Counter({"FAILED": 1}), [f"fuzzing: no end after {seconds:.0f} s"]
    passed, failed = (
        int(m[1]) if (m := re.search(rf"(\d+) {word}", done.stdout)) else 0 for word in ("passed", "failed")
    )
    print(
        f"fuzzing: {each} inputs for each of {passed + failed} readers in {time.monotonic() - began:.0f} s", flush=True
    )
    found = Counter({"a value or refused": passed * each})
    lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    if failed or done.returncode:
        found["FAILED"] = max(failed, 1)
        lines = lines or [done.stdout[-2000:]]
    return found, [f"fuzzing: {line}" for line in lines]


def table(found: dict[str, Counter[str]], markdown: bool) -> str:
    """Return a table of the kinds with the number of attacks and their outcomes."""
    rows = [("Kind", "Tries", "Outcomes", "Not held off")]
    for kind, counts in found.items():
        results = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()) if name != "FAILED")
        rows.append((kind, f"{counts.total():,}", results, str(counts["FAILED"])))
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([lines[0], "|---|---:|---|---:|", *lines[1:]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def main() -> int:
    """Run the attacks that the command line names; return the exit code."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known = [kind.__name__.replace("_", " ") for kind in KINDS]
    asked.add_argument("--kind", action="append", choices=known, help="only this kind; may be repeated")
    asked.add_argument("--fuzz", type=int, default=0, metavar="N", help="inputs for the readers in all")
    asked.add_argument("--seconds", type=float, default=1800.0, help="for all together; what is left over is not tried")
    asked.add_argument(
        "--patience", type=float, default=SECONDS_EACH, help="seconds for one attack, on an idle machine"
    )
    asked.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = asked.parse_args()
    began, found, faults = time.monotonic(), dict[str, Counter[str]](), list[str]()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="harness-attack-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        for more in ([], ["--set", "wrong_label=0.5"]):
            start = ["run", "--model", "oracle", "--dataset", "shapes", "--limit", "2", "--no-mlflow", *more]
            subprocess.run([*HARNESS, *start], cwd=made, check=True, capture_output=True)
        attacks = Attacks(sorted(path.name for path in (made / "runs").iterdir()))
        for make in KINDS:
            if not given.kind or make.__name__.replace("_", " ") in given.kind:
                make(attacks)
        for number, attack in enumerate(attacks.found):
            counts = found.setdefault(attack.kind, Counter())
            left = given.seconds - (time.monotonic() - began)
            if left <= 0:
                counts["not tried"] += 1
                continue
            folder = Path(scratch) / str(number)
            shutil.copytree(made, folder)
            result, fault = outcome(attack, folder, min(given.patience, left))
            counts["FAILED" if fault else result] += 1
            if fault:
                faults.append(f"{attack.kind}: {attack.name}: {fault}")
                print(faults[-1], file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    if given.fuzz:
        found["fuzzing"], more_faults = fuzzed(given.fuzz, max(1.0, given.seconds - (time.monotonic() - began)))
        faults += more_faults
        print("\n".join(more_faults), file=sys.stderr, flush=True)
    print(table(found, given.markdown))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
