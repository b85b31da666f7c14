"""Pages as a reader has them: opened from disk in a browser, sorted, filtered, clicked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from flow.metric import Interval, Kind, Metric
from flow.report.html import run_page
from flow.review import report_all
from flow.synthesis_report import report_synthesis
from tests.report.browser import Opened, chromium
from tests.report.support import deep, made_up, metric, save
from tests.report.test_pages import HOSTILE, hostile
from tests.report.test_synthesized import artifact, synthesized

SECONDS = 2.0  # in which a page of 60 layers can be used


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a network of 60 layers."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(run_page(made_up(deep(20))))
    return path


def _column(page: Page, table: str, number: int) -> list[str]:
    """The texts of a column, of the rows that are shown."""
    cells = page.locator(f"#{table} tbody tr:visible > :nth-child({number})")
    return [text.strip() for text in cells.all_inner_texts()]


def _sort(page: Page, table: str, name: str) -> str | None:
    head = page.locator(f"#{table} thead th", has=page.get_by_role("button", name=name, exact=True))
    head.get_by_role("button").click()
    return head.get_attribute("aria-sort")


def test_a_page_of_60_layers_opens_at_once(browser: Browser, page: Path) -> None:
    opened = Opened(browser, page)
    assert 0 < opened.seconds < SECONDS
    opened.drawn()
    assert opened.seconds < SECONDS  # with all its pictures
    assert opened.page.locator("#layer-facts dd").count() > 5
    assert len(_column(opened.page, "layers", 2)) == 60
    opened.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_picture_is_drawn(browser: Browser, page: Path, dark: bool, width: int) -> None:
    opened = Opened(browser, page, dark=dark, width=width)
    opened.drawn()
    shown = opened.page
    assert shown.locator(".chart svg").count() == shown.locator(".chart").count() == 6
    for picture in shown.locator(".chart svg").all():  # every one has a text for who sees none
        root = picture.locator("[role=graphics-document], [aria-label]").first
        assert root.get_attribute("aria-label") or picture.get_attribute("aria-label")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    ground, text = (
        sum(map(int, shown.evaluate(f"getComputedStyle(document.body).{name}")[4:-1].split(",")))
        for name in ("backgroundColor", "color")
    )
    assert (ground < text) == dark
    opened.close()


@pytest.mark.parametrize(("width", "rated"), [(1280, True), (800, False), (390, True)])
def test_long_figures_do_not_widen_a_page(
    browser: Browser, tmp_path: Path, width: int, rated: bool
) -> None:
    """As of an FPGA: rates with their spread, estimates, and parts of the whole."""
    figures = (
        Metric(
            *("stream throughput", 34_804_321.5, "1/s", Kind.MEASURED, "made up"),
            Interval(33_300_123.4, 34_804_321.5, 1 / 3),
        ),
        *(metric("multipliers", 98_765, kind) for kind in Kind),
        metric("multipliers: input and output registers", 98_000, Kind.ASSUMED),
    )
    run = made_up(deep(1), figures=figures)
    if not rated:
        run = dataclasses.replace(run, report=dataclasses.replace(run.report, accuracy={}))
    opened = Opened(browser, save(run, tmp_path / "run") / "report.html", width=width)
    opened.drawn()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    box = opened.page.get_by_text("[33,300,000, 34,800,000]").first.bounding_box()
    line = opened.page.evaluate("parseFloat(getComputedStyle(document.body).lineHeight)")
    assert box is not None
    if width > 390 and not rated:  # the table has the whole width: an interval is not broken
        assert box["height"] < 1.5 * line
    table = opened.page.locator("#h-parts + .scroll table").inner_text()
    assert re.search(r"input and output registers\s+98,000\n", table)
    assert re.search(r"the rest\s+747\n", table) and re.search(r"all\s+98,765$", table)
    opened.close()


def test_a_printed_page_is_as_wide_as_the_paper(browser: Browser, tmp_path: Path) -> None:
    made = artifact(tmp_path)  # with the columns and tables of vendor tools
    report_synthesis(synthesized(made, tmp_path / "taken"), made)
    opened = Opened(browser, made / "report.html", width=720)
    opened.drawn()
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 720
    assert not opened.page.locator(".tools").first.is_visible()
    assert "Vivado 2020.1" in opened.page.locator("#h-synthesis + .scroll").inner_text()
    opened.close()


def test_errors_stand_beside_those_against_the_float_twin(browser: Browser, page: Path) -> None:
    opened = Opened(browser, page)
    opened.drawn()
    picture = opened.page.locator("[data-chart=errors] svg")
    marks = [picture.locator(f"[aria-roledescription={kind}]").count() for kind in ("bar", "point")]
    twins = [text for text in _column(opened.page, "layers", 14) if text]
    assert twins == ["12.0", "24.1"]  # those that made-up runs have
    assert marks[0] > 10 and marks[1] == len(twins)
    text = opened.page.locator("[data-chart=errors]").get_attribute("aria-label")
    assert text and "conv0a 23.9 its own rounding, 12.0 against the float twin; " in text
    assert (
        "12.0 dB, rms difference 25.00 % of its rms"
        in opened.page.locator("#layer-facts").inner_text()
    )
    opened.close()


def test_sorting_and_filtering_layers(browser: Browser, page: Path) -> None:
    opened = Opened(browser, page)
    shown = opened.page
    assert _sort(shown, "layers", "MACs") == "ascending"
    macs = [text for text in _column(shown, "layers", 8) if text]
    assert macs == sorted(macs, key=lambda text: int(text.replace(",", "")))
    assert _sort(shown, "layers", "own rounding, dB") == "ascending"
    assert _sort(shown, "layers", "own rounding, dB") == "descending"
    errors = [float(text) for text in _column(shown, "layers", 13) if text not in ("", "none")]
    assert errors == sorted(errors, reverse=True) and len(errors) > 10
    shown.get_by_label("Filter").fill("add 1")
    names = _column(shown, "layers", 2)
    assert sorted(names) == sorted(f"add{n}" for n in range(20)) or all(
        "add" in name for name in names
    )
    assert 0 < len(names) < 60
    assert shown.locator("[data-count=layers]").inner_text() == f"{len(names)} of 60 rows"
    shown.get_by_label("Filter").fill("")
    assert len(_column(shown, "layers", 2)) == 60
    opened.close()


def test_clicking_a_layer_shows_it(browser: Browser, page: Path) -> None:
    opened = Opened(browser, page)
    shown = opened.page
    assert shown.locator("#layer-name").inner_text() == "conv0a"
    shown.locator("a.box", has_text="conv2b").click()
    expect(shown.locator("#layer-name")).to_have_text("conv2b")
    assert shown.url.endswith("#layer-7")
    assert shown.locator("tr[aria-current=true] a").inner_text() == "conv2b"
    assert "reads" in shown.locator("#layer-facts").inner_text()
    shown.locator("#layers a", has_text="add3").first.click()
    expect(shown.locator("#layer-name")).to_have_text("add3")
    assert not shown.locator("#figure-weights").is_visible()
    shown.locator("a.box").nth(4).focus()
    shown.keyboard.press("Enter")
    expect(shown.locator("#layer-name")).to_have_text("conv1b")
    shown.locator("#cost").select_option(index=1)
    opened.drawn()
    assert "multipliers" in shown.locator("#chart-cost").inner_text()
    opened.close()


def test_names_are_never_scripts(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(run_page(hostile()))
    opened = Opened(browser, path)
    opened.page.locator("a.box").nth(1).click()
    opened.drawn()
    assert HOSTILE in opened.page.locator("h1").inner_text()
    assert opened.page.locator("#layer-name").inner_text() == HOSTILE
    opened.close()


def test_the_index_is_searched_and_compares(browser: Browser, tmp_path: Path) -> None:
    save(made_up(deep(1), figures=(metric("lut", 10),), given=("bits=4",)), tmp_path / "first")
    save(
        made_up(deep(2), figures=(metric("lut", 9),), hits=300),
        tmp_path / HOSTILE.replace("/", "-"),
    )
    (tmp_path / "half").mkdir()
    opened = Opened(browser, report_all(tmp_path).page)
    opened.drawn()
    shown = opened.page
    assert "compile did not end" in shown.locator("tr.incomplete").inner_text()
    shown.get_by_label("Search").fill("bits=4")
    assert _column(shown, "runs", 1) == ["first"]
    shown.get_by_label("Search").fill("")
    assert _sort(shown, "runs", "lut") == "ascending"
    assert _column(shown, "runs", 8) == ["9", "10", ""]  # what has none comes last
    assert _sort(shown, "runs", "lut") == "descending"
    assert _column(shown, "runs", 8) == ["10", "9", ""]
    assert shown.locator(".chart svg").count() == 1
    shown.locator("#pick-a").select_option("first")
    shown.locator("#pick-b").select_option(index=0)
    rows = shown.locator("#difference tbody tr")
    first = _column(shown, "difference", 1)
    assert rows.count() and {"conv1a", "conv1b", "add1"} <= set(first)
    changes = [text for text in _column(shown, "difference", 5) if text.endswith(" dB")]
    assert not any("%" in text for text in changes)
    shown.locator("#pick-b").select_option("first")
    assert rows.count() == 0
    assert shown.locator("#difference-count").inner_text() == "nothing differs"
    opened.close()
