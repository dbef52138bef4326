"""The commands that README, ``docs`` and the help texts print: found, parsed, and run by a shell.

A block of commands is a paragraph of an indented code block that begins with one of `PROGRAMS`, the ``run`` keys of a
fenced YAML block, or the examples of a command's help. A comment right above a code block says what of it is not run,
and why; with a text in parentheses it is about the commands that contain the text:

    <!-- not run in tests: takes hours -->
    <!-- not run in tests (--device cuda): needs a GPU -->
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import typer
import yaml

from harness.cli import main

ROOT = Path(__file__).parents[2]
PROGRAMS = ("harness", "pip", "pytest", "python", "torchrun", "mlflow", "sbatch", "for", "ruff", "mypy", "sphinx-build",
            "pre-commit")  # fmt: skip
NOT_RUN_IN_HELP = {
    "--device cuda": "needs GPUs",
    "harness train": "hours of training",
    "harness view": "a server, which does not end",
    "harness bench": "a minute of measuring",
}
"""As the comments in documents: a text of commands in help, and why they are not run."""
EXIT_CODES = {("datasets", "check"): 1}
"""Of commands whose documented exit code is another than 0, here where copies of datasets are small: of a name."""

_STARTS = re.compile(rf"([A-Z_]+=\S+ )*({'|'.join(PROGRAMS)}) \S")
_COMMENT = re.compile(r"<!-- not run in tests(?: \((?P<text>.+?)\))?: (?P<why>.+?) -->")
_RUN_NAME = re.compile(r"(?P<place>runs/)(?P<name>\w[\w-]*-)(?P<digest>[0-9a-f]{8})\b")


@dataclass(frozen=True)
class Block:
    """Commands that belong together; ``skipped`` are texts of those that are not run, with the reason."""

    source: str
    """Where it stands: ``README.md:12`` or ``harness run --help``."""
    commands: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    def is_run(self, command: str) -> bool:
        """Whether a test runs a command of this block."""
        return not any(text in command for text, _ in self.skipped)

    @property
    def runnable(self) -> tuple[str, ...]:
        """The commands that a test runs."""
        return tuple(command for command in self.commands if self.is_run(command))


def documents() -> list[Path]:
    """README first, then the rest by name."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks_of(path: Path) -> Iterator[Block]:
    """The blocks of commands of a document."""
    for number, paragraphs, skipped in _code_blocks(path):
        commands = [
            c for paragraph in paragraphs if paragraph and _STARTS.match(paragraph[0]) for c in _commands(paragraph)
        ]
        if commands:
            yield Block(f"{path.name}:{number}", tuple(commands), tuple(skipped))


def strange_lines(path: Path) -> list[str]:
    """Lines of code that look like a command but stand in no block of commands."""
    paragraphs = [p for _, paragraphs, _ in _code_blocks(path) for p in paragraphs if p and not _STARTS.match(p[0])]
    return [line for paragraph in paragraphs for line in paragraph if _STARTS.match(line)]


def blocks_of_help() -> Iterator[Block]:
    """The examples of every command of the command line."""
    for name, command in _all_commands(typer.main.get_command(main.build())):
        text = inspect.getdoc(command.callback) or ""
        commands = [line.strip() for line in text.splitlines() if line.startswith("    harness ")]
        if commands:
            yield Block(f"{name} --help", tuple(commands), tuple(NOT_RUN_IN_HELP.items()))


def spans_of(path: Path) -> list[str]:
    """Commands within sentences: code spans that begin with ``harness``, which may leave arguments out."""
    text = re.sub(r"^(```.*?^```|    .*?)$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`(harness\s[^`]+)`", text)]


def _code_blocks(path: Path) -> Iterator[tuple[int, list[list[str]], list[tuple[str, str]]]]:
    """Number of the first line, paragraphs, and what is not run, of every code block."""
    lines = path.read_text().splitlines()
    skipped: list[tuple[str, str]] = []
    index = 0
    while index < len(lines):
        line, start = lines[index], index + 1
        index += 1
        if comment := _COMMENT.fullmatch(line):
            skipped.append((comment["text"] or "", comment["why"]))
        elif line.startswith("```"):
            end = lines.index("```", index)
            if line == "```yaml":
                yield start, [_run_keys(yaml.safe_load("\n".join(lines[index:end])))], skipped
            index, skipped = end + 1, []
        elif line.startswith("    ") and not lines[index - 2].strip():
            while index < len(lines) and (lines[index].startswith("    ") or not lines[index].strip()):
                index += 1
            text = "\n".join(one.removeprefix("    ") for one in lines[start - 1 : index]).rstrip()
            yield start, [part.splitlines() for part in re.split(r"\n\s*\n", text)], skipped
            skipped = []
        elif line.strip() and skipped:
            raise AssertionError(f"{path.name}:{start}: no code follows the comment on what is not run")


def _run_keys(document: Any) -> list[str]:
    if isinstance(document, dict):
        own = document["run"].splitlines() if isinstance(document.get("run"), str) else []
        return own + [line for value in document.values() for line in _run_keys(value)]
    return [line for value in document for line in _run_keys(value)] if isinstance(document, list) else []


def _commands(lines: list[str]) -> list[str]:
    """Join lines that belong to one command: those that end with a backslash, and loops."""
    commands: list[str] = []
    is_open = False
    for line in lines:
        if is_open:
            commands[-1] += f"\n{line}"
        else:
            commands.append(line)
        loops = commands[-1].startswith("for ") and not commands[-1].endswith("\ndone")
        is_open = line.endswith("\\") or loops
    return commands


def _all_commands(command: Any, name: str = "harness") -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
    else:
        for key, one in inner.items():
            yield from _all_commands(one, f"{name} {key}")


def with_runs(commands: tuple[str, ...], runs: Callable[[str], list[str]]) -> str:
    """The commands with real run folders for those they stand for: ``RUN``, and names with a made-up digest.

    ``runs`` gives the names of the folders that begin with a text. A second digest, like a second ``RUN`` of a command,
    is the second of them, and so on, from the start again where there are no more.
    """
    text = "\n".join(commands)
    seen: dict[str, list[str]] = {}

    def named(match: re.Match[str]) -> str:
        known, digests = runs(match["name"]), seen.setdefault(match["name"], [])
        if match["digest"] not in digests:
            digests.append(match["digest"])
        assert known, f"no run stands for {match[0]}"
        return match["place"] + known[digests.index(match["digest"]) % len(known)]

    any_run = [runs(f"{model}-shapes-")[0] for model in ("clipvis", "ov2seg")]
    lines = []
    for line in _RUN_NAME.sub(named, text).splitlines():
        numbers = iter(range(100))
        several = line.replace("RUN...", "RUN RUN")
        lines.append(re.sub(r"\bRUN\b", lambda _: f"runs/{any_run[next(numbers) % len(any_run)]}", several))  # noqa: B023
    return "\n".join(lines)


class Shell:
    """Bash whose command ``harness`` is answered by this process, which spares every command its start.

    Everything else is as a user has it: quotes, globs, redirections, loops, and the working directory.
    """

    _PRELUDE = r"""
    harness() {
        printf '%s\0' "$@" $'\n' >"$TALK/ask"
        local code
        read -r code <"$TALK/answer"
        cat "$TALK/stdout"
        cat "$TALK/stderr" >&2
        return "$code"
    }
    command -v jq >/dev/null || jq() {
        python -c 'import json, sys; print(json.load(open(sys.argv[1]))["runs"][0]["folder"])' "$3"
    }
    set -e
    """

    def __init__(self, talk: Path) -> None:
        self._talk = talk
        talk.mkdir()
        for name in ("ask", "answer"):
            os.mkfifo(talk / name)
        # open for both ways: neither side ever meets an end, or waits for the other to open
        self._ask, self._reply = (os.open(talk / name, os.O_RDWR) for name in ("ask", "answer"))

    def run(self, commands: str, folder: Path) -> None:
        """Run commands in a folder; raises `AssertionError` with what they printed where one fails."""
        log = self._talk / "log"
        with contextlib.chdir(folder), log.open("wb") as output:
            shell = subprocess.Popen(
                ["bash", "-c", f"{self._PRELUDE}\nset -v\n{commands}"], stdout=output, stderr=subprocess.STDOUT,
                env={**os.environ, "TALK": str(self._talk)},
            )  # fmt: skip
            told = b""
            while shell.poll() is None:
                if not select.select([self._ask], [], [], 0.02)[0]:
                    continue
                told += os.read(self._ask, 1 << 16)
                if told.endswith(b"\0\n\0"):
                    code = self._answer([part.decode() for part in told.split(b"\0")[:-2]])
                    os.write(self._reply, f"{code}\n".encode())
                    told = b""
        assert shell.returncode == 0, log.read_text(errors="replace")

    def _answer(self, arguments: list[str]) -> int:
        with (
            (self._talk / "stdout").open("w") as out,
            (self._talk / "stderr").open("w") as err,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            patch.object(sys, "argv", ["harness", *arguments]),
        ):
            try:
                code = main._run()
            except Exception as error:  # what ends a command of its own with a traceback
                print(f"{type(error).__name__}: {error}", file=err)
                return 70
            finally:
                gc.enable()  # `harness eval` turns it off, as its process ends with it
        of_name = len(arguments) > 2 and not arguments[2].startswith("-")
        expected = EXIT_CODES.get((arguments[0], arguments[1]), 0) if of_name else 0
        return 0 if code == expected else code or 71


def arguments_of(commands: tuple[str, ...], folder: Path) -> list[list[str]]:
    """What a shell makes of commands: program and arguments of each. None is run; ``folder`` is for a record."""
    programs = [*(p for p in PROGRAMS if p != "for"), "gh", "jq", "git"]
    record = folder / "record"
    functions = "\n".join(
        f"""{name}() {{ printf '%s\\0' {name} "$@" $'\\n' >>"$RECORD"; }}""" for name in programs
    )  # fmt: skip
    text = re.sub(r"\$\{\{.*?\}\}", "X", "\n".join(commands))
    done = subprocess.run(
        ["bash", "-c", f"set -e\n{functions}\n{text}"], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "RECORD": str(record)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [line.strip("\0").split("\0") for line in record.read_text().split("\n\0") if line.strip("\0")]


def parse(arguments: list[str]) -> Any:
    """Parse arguments of ``harness``; raises click's `UsageError` for what a command does not know. Returns it."""
    command, given, name = typer.main.get_command(main.build()), list(arguments), "harness"
    while True:
        context = command.make_context(name, given)
        if not hasattr(command, "resolve_command"):
            return command
        name, command, given = command.resolve_command(context, [*context._protected_args, *context.args])


def check_span(span: str) -> None:
    """Raise `AssertionError` where a command in a sentence, or an option of it, is not known."""
    command = typer.main.get_command(main.build())
    words = span.split()[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands") or not words or words[0].startswith("-"), f"{span}: no such command"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--install-completion"}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    assert not unknown, f"{span}: {unknown} not known"
