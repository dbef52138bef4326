"""`harness view`: the index, the states of objects, and the server by the framework's test client.

Tests of `harness/cli/view.py`, `reports/view_index.py`, `reports/view_server.py` and `reports/view_video.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_waits import wait_in_page
from flask.testing import FlaskClient
from oracle_runs import HOSTILE, oracle_run
from PIL import Image
from werkzeug.serving import make_server

from harness.datasets.shapes import PLUGIN as SHAPES
from harness.formats.youtube_vis import TruthTrack
from harness.masks import Rle
from harness.reports.html import Options
from harness.reports.run_data import dataset_of_run
from harness.reports.view_index import CODES, Filters
from harness.reports.view_server import Library, make_app
from harness.reports.view_video import AssignedTrack, states
from harness.run_folder.finished_run import FinishedRun
from harness.types import Track

TOKEN = "a-token"


@pytest.fixture(scope="module")
def library(two: list[Path]) -> Library:
    return Library(SHAPES.open(Path(), "test"), two)


@pytest.fixture
def client(library: Library) -> FlaskClient:
    return make_app(library, TOKEN).test_client()


def got(client: FlaskClient, path: str) -> Any:
    answer = client.get(f"/{TOKEN}/api/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json


def test_the_counts_are_those_of_the_analysis(client: FlaskClient, two: list[Path]) -> None:
    from harness.reports.run_analysis import analyse_runs

    kinds = got(client, "overview")["kinds"]
    for counts, one in zip(kinds, analyse_runs(two, Path("data")), strict=True):
        errors = one.analysis.errors
        assert {k: counts[k] for k in errors.kinds} == {k: kind.count for k, kind in errors.kinds.items()}
        assert counts["hit"] == errors.hits


def test_pairs_cost_what_the_repair_of_all_wrong_names_is_worth(library: Library) -> None:
    """Repairing pair by pair is worth less or more than all at once, but not by much where each is small."""
    run = library.index.runs[1]
    pairs = library.index.confusions(run, np.ones(len(run.tracks.score), np.bool_))
    assert sum(count for _, _, count, _, _ in pairs) == (run.tracks.code == CODES.index("classification")).sum()
    assert all(cost >= 0 for _, _, _, cost, _ in pairs)
    assert pairs == sorted(pairs, key=lambda row: -row[3])
    assert 0.05 < sum(row[3] for row in pairs) < 0.7


def test_filters_hold_for_every_number(client: FlaskClient, library: Library) -> None:
    everything = got(client, "overview")
    wrong = got(client, "overview?kind=classification&runs=1")
    [counts] = wrong["kinds"]
    assert counts["classification"] == everything["kinds"][1]["classification"] > 0
    assert sum(counts.values()) == counts["classification"]
    assert sum(wrong["videos"]["runs"][0]["errors"]) == counts["classification"]
    true, said, number, _, _ = wrong["pairs"][0][0]
    pair = got(client, f"overview?kind=classification&runs=1&category={true}&said={said}")
    assert pair["kinds"][0]["classification"] == number
    tracks = [
        track
        for video in pair["videos"]["id"]
        for run in got(client, f"video/{video}?kind=classification&runs=1&category={true}&said={said}")["runs"]
        for track in run["tracks"]
        if track["passes"]
    ]
    assert len(tracks) == number
    assert {track["category"] for track in tracks} == {said}
    parts = [got(client, f"overview?size={size}")["kinds"][0]["hit"] for size in ("small", "medium", "large")]
    assert sum(parts) == everything["kinds"][0]["hit"]
    low, high = (got(client, f"overview?{one}")["kinds"][0]["hit"] for one in ("high=0.5", "low=0.500001"))
    assert low + high == everything["kinds"][0]["hit"]
    index = library.index
    groups = [index.chosen(index.runs[0], Filters(group=group)).sum() for group in index.groups]
    assert sum(groups) == len(index.runs[0].tracks.score)


def test_a_video_has_its_objects_tracks_outlines_and_pictures(client: FlaskClient) -> None:
    video = got(client, "overview")["videos"]["id"][0]
    found = got(client, f"video/{video}")
    assert all(len(s["states"]) == found["frames"] for o in found["objects"] for s in o["strips"])
    assert all(
        (state == "-") == (present == "0")
        for o in found["objects"]
        for s in o["strips"]
        for state, present in zip(s["states"], o["present"], strict=True)
    )
    row = found["runs"][1]["tracks"][0]["row"]
    traced = got(client, f"video/{video}/outlines/0?tracks1={row}")
    assert traced["truth"]
    assert set(traced["runs"]["1"]) <= {str(row)}
    picture = client.get(f"/{TOKEN}/api/video/{video}/frames/0.jpg")
    assert Image.open(BytesIO(picture.data)).size == (found["width"], found["height"])


@pytest.mark.parametrize(("kind", "begin"), [("gif", b"GIF89a"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("mp4", b"")])
def test_a_selection_is_exported(client: FlaskClient, kind: str, begin: bytes) -> None:
    video = got(client, "overview")["videos"]["id"][0]
    answer = client.get(f"/{TOKEN}/api/video/{video}/export.{kind}?to=3")
    assert answer.status_code == 200
    assert answer.data.startswith(begin)
    assert len(answer.data) > 1000
    assert "attachment" in answer.headers["Content-Disposition"]


def rectangle(left: int, right: int) -> Rle:
    mask = np.zeros((20, 20), np.bool_)
    mask[2:12, left:right] = True
    return Rle.encode(mask)


def test_states_of_an_object() -> None:
    here, there = rectangle(2, 10), rectangle(12, 20)
    truth = TruthTrack(7, 1, 3, False, (here, here, here, here, None, here))
    own = Track(1, 3, 0.9, (here, None, None, None, here, here))
    second = Track(1, 3, 0.5, (None, here, None, there, None, None))
    renamed = Track(1, 4, 0.8, (here, here, here, None, None, None))
    tracks = [
        AssignedTrack(0, own, "hit", 7),
        AssignedTrack(1, renamed, "classification", 7),
        AssignedTrack(2, second, "duplicate", 7),
    ]
    found, rows = states(truth, tracks, 6)
    assert found == "hswm-h"
    assert rows == [0, 2, 1, None, None, 0]
    assert states(truth, [], 6)[0] == "mmmm-m"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("api/overview?kind=wrong", 400),
        ("api/overview?low=x", 400),
        ("api/overview?runs=7", 400),
        ("api/overview?category=99999", 404),
        ("api/video/99999", 404),
        ("api/video/1/frames/999.jpg", 404),
        ("api/video/1/export.exe", 400),
        ("api/video/1/export.gif?from=5&to=2", 400),
        ("assets/..%2f..%2fpages.py", 404),
        ("assets/viewer.js", 404),
        ("assets/%2e%2e/pages.py", 404),
    ],
)
def test_what_is_not_there_is_refused(client: FlaskClient, path: str, code: int) -> None:
    assert client.get(f"/{TOKEN}/{path}").status_code == code


def test_only_who_has_the_token_and_names_localhost_is_answered(client: FlaskClient) -> None:
    assert client.get("/").status_code == 403
    assert client.get("/another/").status_code == 403
    assert client.get(f"/{TOKEN}/", headers={"Host": "evil.example"}).status_code == 403
    assert client.get(f"/{TOKEN}/", headers={"Host": "evil.example:80"}).status_code == 403
    assert client.post(f"/{TOKEN}/api/overview").status_code == 405
    for host in ("localhost:8080", "127.0.0.1:9", "[::1]:5", "localhost"):
        answer = client.get(f"/{TOKEN}/", headers={"Host": host})
        assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_a_run_that_goes_on_is_shown_and_followed(two: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / two[1].name
    shutil.copytree(two[1], folder)
    for name in ("metrics.json", "SHA256SUMS"):
        (folder / name).unlink()
    shards = sorted((folder / "predictions").glob("*.parquet"))
    held = tmp_path / "held"
    held.mkdir()
    for shard in shards[2:]:
        shard.rename(held / shard.name)
    library = Library(SHAPES.open(Path(), "test"), [folder])
    assert library.index.runs[0].done.sum() == 2
    assert (library.index.runs[0].tracks.code == CODES.index("hit")).any()
    assert not library.refresh()
    (held / shards[2].name).rename(shards[2])
    assert library.refresh()
    assert library.index.runs[0].done.sum() == 3
    (run,) = got(make_app(library, TOKEN).test_client(), "about")["runs"]
    assert (run["done"], run["videos"]) == (3, len(shards))  # of a run with a limit, not of the dataset


def test_unfinished_runs_of_one_model_are_told_apart_by_their_settings(two: list[Path], tmp_path: Path) -> None:
    folders = [tmp_path / one.name for one in two]
    for one, folder in zip(two, folders, strict=True):
        shutil.copytree(one, folder)
    (folders[0] / "metrics.json").unlink()
    labels = [run.label for run in Library(SHAPES.open(Path(), "test"), folders).index.runs]
    assert labels == ["oracle wrong_label=0.0", "oracle wrong_label=0.5"]


def test_text_of_files_is_never_markup(hostile: tuple[Path, Options]) -> None:
    folder, options = hostile
    run = FinishedRun.open(folder)
    dataset = dataset_of_run(run, options.data_root, options.annotations, options.frames)
    client = make_app(Library(dataset, [folder]), TOKEN).test_client()
    page = client.get(f"/{TOKEN}/").text
    assert HOSTILE not in page
    about = client.get(f"/{TOKEN}/api/about")
    assert about.headers["Content-Type"] == "application/json"
    gone = client.get(f"/{TOKEN}/api/video/1/frames/1.jpg")
    assert gone.status_code == 404
    assert "frame is missing" in gone.text


@pytest.fixture
def address(library: Library) -> Iterator[str]:
    import threading

    server = make_server("127.0.0.1", 0, make_app(library, TOKEN), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{TOKEN}/"
    server.shutdown()
    server.server_close()


def seen(page: Any) -> dict[str, Any]:
    """What the page shows."""
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector(".mask", state="attached")
    page.wait_for_load_state("networkidle")
    return {
        "rows": page.locator("#table tbody tr").all_inner_texts(),
        "kinds": page.locator("#kinds").inner_text(),
        "title": page.locator("#video-title").inner_text(),
        "place": page.locator("#place").inner_text(),
        "object": page.locator(".object[aria-current=true]").all_inner_texts(),
        "masks": page.locator(".mask").count(),
        "lists": page.locator(".objects").all_inner_texts(),
    }


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_filter_strip_frame_permalink_reload(browser: Any, address: str, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    every = page.locator("#table tbody tr").count()
    page.locator("[data-kind=classification]").click()
    page.wait_for_selector("[data-kind=classification][aria-pressed=true]")
    assert 0 < page.locator("#table tbody tr").count() <= every
    page.locator("#table tbody td.text button").first.click()
    page.wait_for_selector(".mask", state="attached")
    strip = page.locator(".strip[data-run='1']").first
    area = strip.bounding_box()
    strip.click(position={"x": area["width"] * 0.55, "y": 3})
    page.wait_for_selector(".object[aria-current=true]")
    assert "frame=" in page.url
    before = seen(page)
    assert before["object"]
    assert not before["place"].startswith("frame 1 of")
    page.reload()
    assert seen(page) == before
    other = context.new_page()
    other.goto(page.url)
    assert seen(other) == before
    page.keyboard.press("ArrowLeft")
    wait_in_page(page, f"document.getElementById('place').textContent !== {before['place']!r}")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert said == []
    context.close()


def opened(browser: Any, address: str) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page


def test_a_number_of_a_video_shows_its_tracks_and_keys_go_to_errors(browser: Any, address: str) -> None:
    page = opened(browser, address)
    assert page.locator("#hint").is_visible()
    page.locator("#table th button", has_text="Missed").click()
    row = page.locator("#table tbody tr").first
    row.locator("td button").nth(1).click()  # hits, of both runs
    page.wait_for_selector(".mask", state="attached")
    assert "show=h" in page.url
    assert [box.is_checked() for box in page.locator("#shown input").all()] == [True, False, False]
    assert page.locator(".mask.error, .mask.miss").count() == 0
    assert not page.locator("#hint").is_visible()
    errors = ".strip .state-w, .strip .state-s, .strip .state-m"
    place = page.locator("#place").inner_text()
    while True:  # every press stands on a frame where a strip turns into an error
        page.keyboard.press("n")
        page.wait_for_load_state("networkidle")
        if page.locator("#place").inner_text() == place:
            break
        place = page.locator("#place").inner_text()
        frame = int(place.split()[1]) - 1
        assert frame in [int(one.get_attribute("x")) for one in page.locator(errors).all()]
    with page.expect_download() as download:
        page.get_by_label("Export").select_option("gif")
    assert Path(download.value.path()).read_bytes().startswith(b"GIF89a")
    page.close()


def test_the_keyboard_reaches_rows_pairs_tracks_and_strips(browser: Any, address: str) -> None:
    page = opened(browser, address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    first = page.locator("#table tbody tr td.text button").first
    first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".mask", state="attached")
    strip = page.locator(".strip").last
    strip.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".object[aria-current=true]")
    assert "object=" in page.url
    seen = "[...document.querySelectorAll('.strip, .objectname, #table button')].filter((one) => one.checkVisibility())"
    count = page.evaluate("document.querySelectorAll('a[href], button, input, select, [tabindex=\"0\"]').length")
    page.locator("#filters input").first.focus()
    for _ in range(count):
        page.keyboard.press("Tab")
        page.evaluate("document.activeElement.dataset.seen = 'yes'")
    assert page.evaluate(f"{seen}.filter((one) => !one.dataset.seen).length") == 0
    page.locator("#tab-pairs").press("Enter")
    page.locator("#table tbody tr td.text button").first.press("Enter")
    wait_in_page(page, "location.search.includes('said=')")
    page.close()


def test_names_have_the_room_and_what_is_absent_can_be_read(browser: Any, address: str) -> None:
    page = opened(browser, address)
    page.locator("#tab-pairs").click()
    page.wait_for_selector("#table td")
    truth, said, *_, frames = (page.locator("#table th").nth(n).bounding_box()["width"] for n in range(5))
    assert max(truth, said) > 90
    assert frames < 90
    faint = "(() => { const one = document.createElement('li'); one.className = 'of quiet'; const list = "
    faint += "document.createElement('ul'); list.className = 'objects'; list.append(one); document.body.append(list);"
    assert page.evaluate(faint + " return getComputedStyle(one).opacity; })()") == "1"
    page.close()


def test_what_is_not_there_is_told_on_the_page(browser: Any, address: str) -> None:
    page = opened(browser, f"{address}?video=99999")
    assert "99999" in page.locator("#fault").inner_text()
    assert page.locator("#table tbody tr").count() > 1  # the rest of the page is there
    page.get_by_role("searchbox", name="Video").fill("no such video")
    page.get_by_role("searchbox", name="Video").press("Enter")
    page.wait_for_selector("td.none")
    assert page.locator("td.none").inner_text() == "No video passes the filters."
    page.get_by_label("Category").fill("no such word")
    page.get_by_label("Category").press("Enter")
    assert page.locator("#fault").inner_text() == "No category is called no such word."
    page.locator("#clear").click()
    page.wait_for_selector("#table tbody tr:nth-child(2)")
    page.route("**/api/**", lambda route: route.abort())
    page.locator("[data-kind=hit]").click()
    page.wait_for_selector("#fault:not([hidden])")
    assert "start harness view again" in page.locator("#fault").inner_text()
    page.close()


def test_the_command_refuses_runs_on_other_data(two: list[Path], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from harness.cli.main import build

    other = oracle_run(tmp_path, SHAPES.open(Path(), "val"), limit=1)
    found = CliRunner().invoke(build(), ["view", str(two[0]), str(other)])
    assert "name runs on the same data" in str(found.exception)
