"""The files for readers: what they hold, that they stand alone, and that nothing in them is
markup of someone else's."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
import vl_convert

from flow import packages
from flow.artifact import digest, write_json
from flow.errors import ToolMissing, UsageError
from flow.metric import Kind
from flow.report import bundle as bundles
from flow.report.bundle import bundle
from flow.report.drawing import HEIGHT, WIDTH, draw
from flow.report.html import run_page
from flow.report.markdown import render
from flow.report.run import Run, read_run
from flow.report.vendor.folder import Found
from flow.report.vendor.synthesis import Module, Resource, Stage, Synthesis
from flow.review import report_run
from tests.report.support import deep, made_up, metric, save

HOSTILE = "<script>alert(1)</script>"
MAX_PAGE = 3_000_000  # bytes


def hostile() -> Run:
    """A run in which everything that is text is a script."""
    run = made_up(deep(1), model=HOSTILE, given=(f"data={HOSTILE}",))
    layers = tuple(
        dataclasses.replace(layer, name=HOSTILE, op=HOSTILE, requant="</script><b>", type="`|*")
        for layer in run.layers
    )
    report = dataclasses.replace(run.report, warnings=[HOSTILE], target="</title>" + HOSTILE)
    module = Module(HOSTILE, {Resource.LUT: 1.0}, layer=HOSTILE)
    stage = Synthesis(
        HOSTILE, HOSTILE, Stage.ROUTED, (HOSTILE,), HOSTILE, modules=(module,), notes=(HOSTILE,)
    )
    return dataclasses.replace(
        run,
        report=report,
        layers=layers,
        samples=HOSTILE,
        twin=HOSTILE,
        synthesis=Found((stage,), (HOSTILE,)),
    )


class Text(HTMLParser):
    """The page's words and elements; scripts are left out of the words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[str] = []
        self.links: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.elements.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_a_page_begins_with_the_answer(compiled: Path) -> None:
    text = Text((compiled / "report.html").read_text()).text
    start = text.index("The same network.")
    assert text.index("small on tflite") < start  # the title
    assert "All 3,015 outputs of 1,005 test vectors equal the reference" in text[start : start + 99]
    for word in (
        "make compile MODEL=./small.onnx TARGET=tflite OPTS=exact=proven",
        *("fc1", "dense", "uint5", "XNNPACK", "constants", "sha256", "flatbuffers", "All options"),
    ):
        assert word in text[start:], word


def test_what_is_of_no_layer_is_drawn_beside_the_layers() -> None:
    """Two convolutions with 9 multipliers each, of 30; measured ones are another figure."""
    figures = (
        *(metric("multipliers", 30, Kind.ASSUMED), metric("multipliers: bus", 5, Kind.ASSUMED)),
        *(metric("multipliers", 99), metric("multipliers: noise", 5)),
    )
    page = run_page(made_up(deep(1), figures=figures))
    charts = json.loads(page.split('id="charts">')[1].split("</script>")[0])
    rows = charts["costs"]["multipliers (assumed)"]["data"]["values"]
    assert {row["layer"]: row["value"] for row in rows} == {
        **{"conv0a": 9, "conv0b": 9},
        **{"bus": 5, "the rest": 7},
    }
    assert [row["of"] for row in rows] == ["of a layer"] * 2 + ["of no one layer"] * 2
    whole = (metric("multipliers", 18, Kind.ASSUMED),)
    charts = run_page(made_up(deep(1), figures=whole)).split('id="charts">')[1]
    assert "of no one layer" not in charts


def test_a_difference_is_said_first() -> None:
    run = made_up(deep(1), matches=False)
    says = "Not the same network. 77 of 80 outputs equal the reference (6 of 8 test vectors whole)"
    assert says in Text(run_page(run)).text
    assert render(run).startswith("matches reference: NO (6 of 8 vectors, 77 of 80 outputs")


def test_a_page_stands_alone(compiled: Path) -> None:
    path = compiled / "report.html"
    assert path.stat().st_size < MAX_PAGE
    page = Text(path.read_text())
    assert not set(page.elements) & {"img", "iframe", "object", "embed", "base", "form"}
    assert page.elements.count("link") == 1  # the icon, which is empty
    assert all(link.startswith(("#", "data:,")) for link in page.links), page.links
    assert "default-src 'none'" in path.read_text()


def test_the_manifest_vouches_for_the_pages(compiled: Path) -> None:
    files = json.loads((compiled / "manifest.json").read_text())["files"]
    assert {"report.json", "report.md", "report.html"} <= files.keys()


def test_names_are_text() -> None:
    run = hostile()
    page = run_page(run)
    plain = Text(run_page(made_up(deep(1), given=("data=x",))))
    text = Text(page)
    assert text.elements.count("script") == plain.elements.count("script")
    assert set(text.elements) <= {*plain.elements, "section", "ul", "li", "details", "summary"}
    assert HOSTILE in text.text
    assert page.count(HOSTILE) == 0
    markdown = render(run)
    body = markdown.split("```")[2]
    assert not re.search(r"(?<!\\)<", body)
    assert {line.count(" | ") for line in body.splitlines() if "conv\\" in line} <= {13}


def test_the_confusion_has_the_names_of_its_classes() -> None:
    run = made_up(deep(1))
    named = dataclasses.replace(
        run, report=dataclasses.replace(run.report, classes=("cat", HOSTILE))
    )
    page = run_page(named)
    assert '<th scope="col">cat</th>' in page and '<th scope="row">cat</th>' in page
    assert HOSTILE in Text(page).text and HOSTILE not in page
    for names in ((), ("cat",)):  # of more or fewer classes than there are
        other = dataclasses.replace(run, report=dataclasses.replace(run.report, classes=names))
        assert '<th scope="row">1</th>' in run_page(other)


def test_the_same_run_gives_the_same_pages(tmp_path: Path) -> None:
    one, two = (save(made_up(deep(2)), tmp_path / name) for name in ("a", "b"))
    for name in ("report.json", "report.md", "report.html", "manifest.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_a_deep_network_s_page_is_quickly_made() -> None:
    run = made_up(deep(20))
    assert len(run.layers) == 60
    bundle()
    start = time.monotonic()
    page = run_page(run)
    assert time.monotonic() - start < 5
    assert len(page.encode()) < MAX_PAGE


def test_a_run_of_the_first_schema_has_a_page(tmp_path: Path) -> None:
    body = made_up(deep(1)).report.to_json()
    (tmp_path / "report.json").write_text(json.dumps(body))
    run = read_run(tmp_path)
    assert "Compile again to see them" in Text(run_page(run)).text
    assert "## Layers" not in render(run)


def test_markdown_has_a_row_a_layer(compiled: Path) -> None:
    lines = (compiled / "report.md").read_text().splitlines()
    assert lines[0] == "matches reference: yes (1005 of 1005 vectors, all outputs)"
    rows = [line for line in lines if line.startswith("| fc")]
    assert [row.split(" | ")[:5] for row in rows] == [
        ["| fc1", "dense", "5", "uint5", "20"],
        ["| fc2", "dense", "3", "int10", "15"],
    ]
    heads = next(line for line in lines if line.startswith("| layer"))
    assert {row.count("|") for row in rows} == {heads.count("|")}


# The page of a run, written again ------------------------------------------------------------


def test_an_older_page_is_written_again(tmp_path: Path) -> None:
    folder = save(made_up(deep(1)), tmp_path / "run")
    fresh = (folder / "report.html").read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert report_run(folder).report.model == "deep"
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    (folder / "report.html").write_text("as an older bitwright wrote it")
    manifest["files"]["report.html"] = digest(folder / "report.html")
    write_json(folder / "manifest.json", manifest)
    report_run(folder)
    assert (folder / "report.html").read_bytes() == fresh
    report_run(folder)  # and the manifest holds


def test_a_page_that_someone_changed_is_refused(tmp_path: Path) -> None:
    folder = save(made_up(deep(1)), tmp_path / "run")
    (folder / "report.html").write_text("forged")
    with pytest.raises(UsageError, match="was changed or lost"):
        report_run(folder)
    with pytest.raises(UsageError, match="is not an artifact"):
        report_run(tmp_path / "nowhere" / "else")
    assert not (tmp_path / "nowhere").exists()


# The plotting library ------------------------------------------------------------------------


def test_the_library_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bundle()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda snippet: whole)
    bundle.cache_clear()
    (kept,) = [tmp_path / "bitwright" / f"vega-{packages.version('vl-convert-python')}.js"]
    bundles._keep(kept, whole[: len(whole) // 2])  # cut short: made again
    assert bundle() == whole == kept.read_text()
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    bundle.cache_clear()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle.cache_clear()
    monkeypatch.setattr(packages, "version", lambda name: None)
    with pytest.raises(ToolMissing, match="vl-convert-python is needed for pictures in reports"):
        bundle()


# The drawing ---------------------------------------------------------------------------------


def test_layers_stand_below_what_they_read() -> None:
    run = made_up(deep(3))
    drawing = draw(run.layers, "4x4x4 uint4")
    at = {box.title: box for box in drawing.boxes}
    assert len(at) == len(drawing.boxes) == len(run.layers) + 1
    for layer in run.layers:
        for source in layer.inputs:
            above = at["input" if source == "x" else source]
            assert above.y + HEIGHT < at[layer.name].y
    places = {(box.x, box.y) for box in drawing.boxes}
    assert len(places) == len(drawing.boxes)
    assert all(
        0 <= x and x + WIDTH <= drawing.width and y + HEIGHT <= drawing.height for x, y in places
    )
    assert len(drawing.paths) == sum(len(layer.inputs) for layer in run.layers)


def test_layers_that_read_themselves_are_drawn_all_the_same() -> None:
    run = made_up(deep(1))
    layers = tuple(dataclasses.replace(layer, inputs=("add0",)) for layer in run.layers)
    assert len(draw(layers, "").boxes) == len(layers) + 1
