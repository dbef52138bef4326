"""Run folders for tests of reports: oracle runs on shapes, and runs on a copy whose names and frames are hostile."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from oracle_runs import HOSTILE, oracle_run
from PIL import Image
from vis_documents import document

from harness.datasets.shapes import PLUGIN as SHAPES
from harness.datasets.youtube_vis_format import open_custom
from harness.reports.html import Options, report

CHROMIUM = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two oracle runs on shapes' test split: the second gives half of the objects another name."""
    runs, dataset = tmp_path_factory.mktemp("runs"), SHAPES.open(Path(), "test")
    return [oracle_run(runs, dataset, wrong_label=0.0), oracle_run(runs, dataset, wrong_label=0.5)]


@pytest.fixture(scope="session")
def page(two: list[Path]) -> str:
    """The report of the two runs."""
    return report(two, Options(videos=4))


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Options]:
    """A run on data whose category and video have names made to break a page, and of which one frame is missing."""
    folder = tmp_path_factory.mktemp("hostile")
    data = document()
    data["categories"][0]["name"] = HOSTILE
    data["videos"][0]["name"] = HOSTILE
    (folder / "data.json").write_bytes(msgspec.json.encode(data))
    for video in data["videos"]:
        for name in video["file_names"]:
            (folder / "frames" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(folder / "frames" / name)
    dataset = open_custom(folder / "data.json", folder / "frames", "lvvis")
    run = oracle_run(folder, dataset)
    (folder / "frames" / "v1" / "1.jpg").unlink()
    options = Options(annotations=folder / "data.json", frames=folder / "frames", videos=2)
    return run, options


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium; what needs it is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine; Debian's is `apt-get install chromium`")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=CHROMIUM)
        yield opened
        opened.close()


class Visit:
    """A page opened from disk, with what it said and asked for: both must stay empty."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page, self.said, self.asked = page, [], []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(path.as_uri())

    @property
    def foreign(self) -> list[str]:
        """Addresses that were asked for and are neither files nor inside the page."""
        return [url for url in self.asked if not url.startswith(("file:", "data:"))]


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Open a file in the browser: ``visit(path, width=1280, color_scheme="light")``."""
    contexts = []

    def opened(path: Path, width: int = 1280, **more: Any) -> Visit:
        context = browser.new_context(viewport={"width": width, "height": 900}, **more)
        contexts.append(context)
        return Visit(context.new_page(), path)

    yield opened
    for context in contexts:
        context.close()
