"""The report and the leaderboard in a real Chromium: nothing is loaded, nothing complains, and every control works."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser_waits import wait_in_page

from harness.reports.comparison import compare_runs
from harness.reports.html import Options, report
from harness.reports.leaderboard import find_runs, site
from harness.reports.run_files import read_runs
from harness.scoring.errors_breakdown import KINDS
from harness.scoring.jackknife import FEWEST_VIDEOS

Visits = Callable[..., Any]


@pytest.fixture(scope="session")
def file(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page)
    return path


def column(page: Any, table: str, number: int) -> list[str]:
    """The texts of one column's visible cells, from the top."""
    cells = page.locator(f"#{table} tbody tr:not([hidden]) > :nth-child({number})")
    return [text.strip() for text in cells.all_inner_texts()]


def background(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def is_wider_than_the_screen(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


def test_the_report_says_nothing_to_the_console_and_asks_no_network(visit: Visits, file: Path) -> None:
    seen = visit(file)
    assert seen.page.locator("#viewer-panes .pane").count() == 3
    assert seen.said == []
    assert seen.asked[0] == file.as_uri()
    assert all(url.startswith("data:") for url in seen.asked[1:])


@pytest.mark.parametrize("width", [375, 1280])
def test_the_page_fits_a_phone_and_a_desk(visit: Visits, file: Path, width: int) -> None:
    assert not is_wider_than_the_screen(visit(file, width=width).page)


def test_long_names_and_hidden_texts_do_not_widen_a_phone(visit: Visits, file: Path) -> None:
    page = visit(file, width=375).page
    page.evaluate(
        "document.querySelectorAll('option').forEach((one) => { one.textContent = 'a long name '.repeat(9); })"
    )
    assert not is_wider_than_the_screen(page)
    hidden = "[...document.querySelectorAll('.scroll .visually-hidden')]"
    assert page.evaluate(f"{hidden}.length") > 0
    assert page.evaluate(f"{hidden}.every((one) => one.closest('.scroll').contains(one.offsetParent))")
    path = "/a" * 90  # of a file that a warning names
    page.evaluate(f"document.getElementById('provenance').insertAdjacentHTML('beforeend', '<ul><li>{path}</li></ul>')")
    assert not is_wider_than_the_screen(page)


def test_what_scrolls_on_a_phone_is_reached_by_key(visit: Visits, file: Path) -> None:
    page = visit(file, width=320).page
    # wider than the screen, whatever times it has
    page.evaluate("{ document.querySelector('#speed .scroll > *').style.minWidth = '40rem' }")
    wait_in_page(page, "document.querySelector('#speed .scroll').tabIndex === 0")
    assert page.evaluate(
        """[...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth)
           .every((one) => one.querySelector('a, button, input, select, [tabindex]') || one.tabIndex === 0)"""
    )
    page.set_viewport_size({"width": 1600, "height": 900})
    wait_in_page(page, "!document.querySelector('.scroll[tabindex]')")


def test_categories_sort_by_a_column_and_back(visit: Visits, file: Path) -> None:
    page = visit(file).page
    header = page.locator("#categories thead th").nth(2)
    before = column(page, "categories", 3)
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    values = [float(text) for text in column(page, "categories", 3)]
    assert values == sorted(values, reverse=True)
    header.locator("button").click()
    assert [float(text) for text in column(page, "categories", 3)] == sorted(values)
    page.locator("#categories thead th").nth(0).locator("button").click()
    names = column(page, "categories", 1)
    assert names == sorted(names)
    assert sorted(column(page, "categories", 3)) == sorted(before)


def test_categories_are_searched_and_filtered_and_the_scatter_follows(visit: Visits, file: Path) -> None:
    page = visit(file).page
    total = page.locator("#categories tbody tr").count()
    page.get_by_label("Search").fill("star")
    shown = column(page, "categories", 1)
    assert shown
    assert all("star" in name for name in shown)
    assert page.locator('[data-filters="categories"] output').inner_text() == f"{len(shown)} of {total}"
    assert page.locator("svg.scatter .dot:not(.out)").count() == len(shown)
    page.get_by_label("Group").select_option("novel")
    assert set(column(page, "categories", 1)) < set(shown)
    page.get_by_label("Search").fill("no such thing")
    assert column(page, "categories", 1) == []
    page.get_by_label("Group").select_option("")
    page.get_by_label("Search").fill("")
    dot = page.locator("svg.scatter .dot").last
    dot.dispatch_event("click")
    assert column(page, "categories", 1) == [dot.locator("title").text_content().partition(":")[0]]


def test_the_scatter_shows_other_runs(visit: Visits, file: Path) -> None:
    page = visit(file).page
    places = "[...document.querySelectorAll('.dot')].map((dot) => dot.getAttribute('cx'))"
    before = page.evaluate(places)
    page.locator("#scatter-x").select_option("1")
    assert page.evaluate(places) != before
    assert page.locator("svg.scatter text.axis").first.text_content() == "AP of oracle wrong_label=0.5"


def test_frames_step_play_and_pause(visit: Visits, file: Path) -> None:
    page = visit(file).page
    place, picture = page.locator("#viewer-place"), page.locator("#viewer-panes img").first
    first = picture.get_attribute("src")
    assert place.inner_text().startswith("frame 1 of ")
    page.locator("#viewer-on").click()
    assert place.inner_text().startswith("frame 2 of ")
    assert picture.get_attribute("src") != first
    page.locator("#viewer-back").click()
    assert picture.get_attribute("src") == first
    page.locator("#viewer").focus()
    page.keyboard.press("ArrowRight")
    assert place.inner_text().startswith("frame 2 of ")
    page.keyboard.press("Space")
    assert page.locator("#viewer-play").get_attribute("aria-pressed") == "true"
    page.locator("#viewer-place", has_text="frame 3 of").wait_for()  # the next one comes by itself
    page.keyboard.press("Space")
    held = place.inner_text()
    page.wait_for_timeout(500)
    assert place.inner_text() == held
    page.locator("#viewer-frame").fill("0")
    assert place.inner_text().startswith("frame 1 of ")


def test_other_videos_are_shown(visit: Visits, file: Path) -> None:
    page = visit(file).page
    before = page.locator("#viewer-about").inner_text()
    page.locator("#viewer-choices button").last.click()
    assert page.locator("#viewer-about").inner_text() != before
    assert page.locator("#viewer-choices [aria-current=true]").count() == 1


def test_what_the_summary_names_leads_to_its_video(visit: Visits, file: Path) -> None:
    page = visit(file).page
    links = page.locator("#answer a[href^='#video-']")
    assert links.count() > 1
    for link in links.all():
        name, video = link.inner_text(), str(link.get_attribute("href")).removeprefix("#video-")
        link.click()
        page.wait_for_selector(f"#viewer-choices [data-video='{video}'][aria-current=true]")
        assert name in KINDS or name in page.locator("#viewer-about").inner_text()
    page.reload()
    assert page.locator(f"#viewer-choices [data-video='{video}'][aria-current=true]").count() == 1
    row = page.locator("#categories tbody tr", has=page.locator("a")).first
    row.locator("a").click()
    video = str(row.locator("a").get_attribute("href")).removeprefix("#video-")
    page.wait_for_selector(f"#viewer-choices [data-video='{video}'][aria-current=true]")
    assert row.locator("a").inner_text() in page.locator(".pane").first.inner_text()


def test_tracks_are_switched_and_told(visit: Visits, file: Path) -> None:
    page = visit(file).page
    pane = page.locator(".pane").first
    drawn = "document.querySelectorAll('.pane:first-child .stage path:not([d=\"\"])').length"
    tracks = pane.locator(".tracks input")
    page.locator("#viewer-frame").fill("3")
    before = page.evaluate(drawn)
    assert 0 < before <= tracks.count()
    pane.get_by_role("button", name="none tracks").click()
    assert page.evaluate(drawn) == 0
    pane.get_by_role("button", name="all tracks").click()
    assert page.evaluate(drawn) == before
    tracks.first.focus()  # by keyboard
    name = pane.locator(".tracks label").first.inner_text().strip()
    assert pane.locator(".reading").inner_text() == name
    page.keyboard.press("Space")
    assert not tracks.first.is_checked()
    page.mouse.move(0, 0)
    second = page.locator(".pane").nth(1).locator(".stage path:not([d=''])").last
    second.dispatch_event("pointerenter")
    assert "score" in page.locator(".pane").nth(1).locator(".reading").inner_text()


def test_light_and_dark_follow_the_system_and_a_switch(visit: Visits, file: Path) -> None:
    light, dark = (background(visit(file, color_scheme=scheme).page) for scheme in ("light", "dark"))
    assert light != dark
    page = visit(file, color_scheme="dark").page
    seen = [background(page)]
    for _ in range(3):
        page.locator("#theme").click()
        seen.append(background(page))
    assert seen == [dark, light, dark, dark]  # auto, light, dark, auto


def test_a_hostile_name_is_shown_and_does_nothing(visit: Visits, hostile: tuple[Path, Options], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(report([hostile[0]], hostile[1]))
    seen = visit(path)
    seen.page.locator("#viewer-choices button", has_text="video 1").click()
    assert "</script><script>alert(1)</script>" in seen.page.locator(".tracks").first.inner_text()
    assert "<script>alert(1)</script>" in seen.page.locator("#categories").inner_text()
    assert seen.page.locator("#viewer-missing").inner_text() == "1 of 2 frames cannot be read: frame is missing"
    seen.page.locator("#viewer-on").click()
    assert seen.page.locator(".absent").first.is_visible()
    assert (seen.said, seen.foreign) == ([], [])


def test_the_leaderboard_works_from_disk(
    visit: Visits, two: list[Path], hostile: tuple[Path, Options], tmp_path: Path
) -> None:
    for name, text in site(find_runs(two[0].parent)).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    seen = visit(tmp_path / "index.html", width=375)
    assert not is_wider_than_the_screen(seen.page)
    seen.page.get_by_label("Search").fill("wrong_label=0.5")
    assert len(column(seen.page, "all", 1)) == 1
    seen.page.locator("#datasets a").click()
    seen.page.wait_for_url("**/shapes-test.html")
    assert not is_wider_than_the_screen(seen.page)
    assert len(column(seen.page, "runs", 1)) == 2
    seen.page.locator("#history-metric").select_option("AP50")
    assert seen.page.locator("figure:visible").count() == 1
    assert seen.page.locator("figure:visible").get_attribute("data-metric") == "AP50"
    assert (seen.said, seen.foreign) == ([], [])


def test_the_skip_link_comes_first_and_headings_are_in_order(visit: Any, page: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page)
    opened = visit(tmp_path / "report.html").page
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "content"
    levels = opened.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_dot_is_reached_by_the_keyboard(visit: Any, page: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page)
    opened = visit(tmp_path / "report.html").page
    dots = opened.locator("svg.scatter .dot")
    assert opened.locator("svg.scatter .dot[tabindex='0']").count() == 1
    dots.first.focus()
    seen = set()
    for _ in range(dots.count()):
        seen.add(opened.evaluate("document.activeElement.dataset.key"))
        opened.keyboard.press("ArrowRight")
    assert len(seen) == dots.count() > 1
    opened.keyboard.press("Enter")
    assert opened.locator("[data-filters='categories'] input[type=search]").input_value()


def test_a_report_prints_on_at_most_four_pages(visit: Any, page: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page)
    pdf = visit(tmp_path / "report.html").page.pdf(format="A4")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf)) <= 4


FOCUSABLE = """[...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
    .filter((one) => one.checkVisibility())"""
FOCUSED = """() => {
    const one = document.activeElement;
    if (one === document.body) return -1;
    one.dataset.seen = "yes";
    return 0;
}"""


def never_reached(page: Any) -> list[str]:
    """What a user can see and use, but not reach with the tab key."""
    page.evaluate("document.activeElement.blur()")
    for _ in range(page.evaluate(f"{FOCUSABLE}.length") + 20):
        page.keyboard.press("Tab")
        page.evaluate(FOCUSED)
    return list(
        page.evaluate(f"{FOCUSABLE}.filter((one) => !one.dataset.seen).map((one) => one.outerHTML.slice(0, 99))")
    )


def test_the_tab_key_reaches_every_link_and_control(visit: Visits, file: Path, two: list[Path], tmp_path: Path) -> None:
    assert never_reached(visit(file).page) == []
    for name, text in site(find_runs(two[0].parent)).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("index.html", "shapes-test.html"):
        page = visit(tmp_path / name).page
        assert never_reached(page) == []
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert page.locator("a.skip").count() == 1


def test_slices_and_dots_of_calibration_lead_to_their_videos(visit: Visits, file: Path) -> None:
    page = visit(file).page
    for links in ("#slices a", "#calibration svg a"):
        found = page.locator(links)
        assert found.count() > 3
        for link in (found.first, found.last):
            video = str(link.get_attribute("href")).removeprefix("#video-")
            link.focus()
            page.keyboard.press("Enter")
            page.wait_for_selector(f"#viewer-choices [data-video='{video}'][aria-current=true]")


def test_metrics_and_curves_lead_to_their_categories(visit: Visits, file: Path) -> None:
    page = visit(file).page
    total = page.locator("#categories tbody tr").count()
    novel = page.locator("#categories tbody tr[data-groups*='novel']").count()
    for part in ("#difference-1", "#results", "#curves"):
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        page.locator(f"{part} a[data-group='novel']").first.press("Enter")
        assert page.get_by_label("Group").input_value() == "novel"
        assert len(column(page, "categories", 1)) == novel < total
        page.locator(f"{part} a[data-group='']").first.press("Enter")
        assert len(column(page, "categories", 1)) == total


def test_categories_in_few_videos_look_uncertain(visit: Visits, file: Path, two: list[Path]) -> None:
    page = visit(file).page
    (pair,) = compare_runs(read_runs(two)).pairs
    few = {str(one.id) for one in pair.categories if one.videos < FEWEST_VIDEOS}
    assert few
    assert (
        set(page.evaluate("[...document.querySelectorAll('#categories tr.few')].map((one) => one.dataset.id)")) == few
    )
    assert set(page.evaluate("[...document.querySelectorAll('.dot.few')].map((one) => one.dataset.key)")) == few
