"""Comparing runs: what the numbers allow to say, limits for CI, and the index."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flow.errors import UsageError
from flow.metric import Kind, Metric
from flow.report import compare
from flow.report.compare import LimitCrossed, check, read_limits, verdict
from flow.report.run import Origin, Run
from flow.report.runs import find_runs, page
from flow.review import report_all
from tests.cli.conftest import run_here
from tests.cli.support import Done, assert_refused
from tests.report.support import deep, made_up, metric, save
from tests.report.test_pages import HOSTILE, MAX_PAGE, Text

__all__ = ["run_here"]  # a fixture
GRAPH = deep(1)


def run(lut: float = 1000, hits: int = 380, **more: object) -> Run:
    figures = (metric("lut", lut), metric("energy", 5, Kind.ESTIMATED, "uJ"))
    return made_up(GRAPH, figures=figures, hits=hits, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (run(), run(), "nothing tells them apart: the same accuracy"),
        (run(), run(lut=750), "B is better: lut -25.0 % (measured); the same accuracy"),
        (run(), run(lut=1250), "A is better: B has lut +25.0 % (measured); the same accuracy"),
        (run(), run(hits=250), "A is better: -32.50 points of accuracy"),
        (run(), run(hits=378), "-0.50 points of accuracy, which these samples do not tell"),
        (run(hits=250), run(750), "B is better: lut -25.0 % (measured); +32.50 points"),
        (run(), run(750, 250), "a trade: B has lut -25.0 % (measured); -32.50 points"),
        (run(), run(matches=False), "B differs from the reference: look at that first"),
        (run(matches=False), run(matches=False), "A and B differ from the reference"),
        (run(), run(hits=250, data="e" * 64), "the accuracies are of different data"),
        (run(), made_up(GRAPH, figures=(metric("other", 1),)), "nothing tells them apart"),
        (
            run(),
            made_up(GRAPH, figures=(metric("energy", 5.2, Kind.ESTIMATED, "uJ"),)),
            "not clear: energy +4.0 % (estimated)",
        ),
        (
            run(),
            made_up(GRAPH, figures=(metric("energy", 9, Kind.MEASURED, "uJ"),)),
            "not clear: energy +80.0 %",
        ),
    ],
)
def test_what_is_better_and_why(a: Run, b: Run, says: str) -> None:
    assert says in verdict(a, b)


def test_what_speaks_against_is_not_lost() -> None:
    less = (metric("multipliers", 50, Kind.ASSUMED), metric("latency", 11, Kind.ESTIMATED))
    more = (metric("multipliers", 99, Kind.ASSUMED), metric("latency", 10, Kind.ESTIMATED))
    a, b = made_up(GRAPH, figures=more), made_up(GRAPH, figures=less)
    assert verdict(a, b) == (
        "B looks better in part: multipliers -49.5 % (assumed); the same accuracy; "
        "against it, but not clear: latency +10.0 % (estimated)"
    )
    assert verdict(b, a).startswith("A looks better in part: B has multipliers +98.0 % (assumed)")
    # What speaks for the same one takes nothing away; a measured figure needs no "looks".
    a = made_up(GRAPH, figures=(more[0], metric("latency", 12, Kind.ESTIMATED)))
    assert verdict(a, b).startswith("B looks better: multipliers -49.5 % (assumed)")
    a, b = (
        made_up(GRAPH, figures=(each[1], metric("lut", n))) for each, n in ((more, 9), (less, 8))
    )
    assert verdict(a, b).startswith("B is better in part: lut -11.1 % (measured)")


def test_runs_for_two_targets() -> None:
    a = made_up(GRAPH, figures=(metric("macs", 5), metric("lut", 9)), given=("weight_bits=4",))
    b = made_up(GRAPH, figures=(metric("macs", 5), metric("file size", 9)), target="tflite")
    b = dataclasses.replace(b, origin=dataclasses.replace(_origin(b), options={"exact": "proven"}))
    assert compare.options_changed(a, b) == [
        ("target", "hls4ml", "tflite"),
        ("weight_bits", "4", "-"),
    ]
    assert "\ntarget: hls4ml -> tflite\noption weight_bits: 4 -> -\n" in compare.text(a, b)
    assert verdict(a, b) == (
        "nothing tells them apart: the same accuracy; only A tells its lut; "
        "only B tells its file size"
    )


def _origin(run: Run) -> Origin:
    assert run.origin is not None
    return run.origin


def test_the_verdict_turns_with_the_order() -> None:
    one, two = run(), run(750, 250)
    assert verdict(one, run(750)).startswith("B is better")
    assert verdict(run(750), one).startswith("A is better")
    assert verdict(one, two).startswith("a trade") and verdict(two, one).startswith("a trade")


def test_a_vendor_s_figure_counts_under_its_own_name() -> None:
    a, b = (made_up(GRAPH, figures=(metric("lut (logic synthesis)", n),)) for n in (100, 90))
    assert verdict(a, b).startswith("B is better: lut (logic synthesis) -10.0 % (measured)")
    with pytest.raises(LimitCrossed, match=r"lut \(logic synthesis\): -10\.0 %"):
        check(read_limits("lut<-5%"), a, b)


def test_measured_is_compared_with_measured() -> None:
    both = tuple(
        metric("lut", value, kind) for value, kind in ((10, Kind.MEASURED), (90, Kind.ASSUMED))
    )
    a, b = made_up(GRAPH, figures=both), made_up(GRAPH, figures=(metric("lut", 11),))
    rows = [row for row in compare.changes(a, b) if row.name == "lut"]
    assert [(row.a, row.b) for row in rows] == [(both[0], metric("lut", 11))]


# FAIL_IF -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "crossed"),
    [
        ("lut>+5%", False),  # 1000 to 1050 is not more than 5 %
        ("lut>+4.9%", True),
        ("lut>+50", False),
        ("lut>+49", True),
        ("lut>1049", True),
        ("lut>1050", False),
        ("lut<1051", True),
        ("lut<-1%", False),
        ("accuracy<-0.5", True),
        ("accuracy<-1", False),
        ("accuracy<94", False),
        ("accuracy<94.9", True),
        ("accuracy_integer>+0", False),
        ("lut>+90%, accuracy<-0.5", True),
        ("lut>+90%  accuracy<-2", False),
        ("energy>+1%", False),
    ],
)
def test_limits(limit: str, crossed: bool) -> None:
    a, b = run(1000, 380, total=400), run(1050, 377, total=400)  # 95 %, 94.25 %
    if limit == "accuracy<94.9":
        assert b.report.accuracy["integer"].value == pytest.approx(0.9425)
    if crossed:
        with pytest.raises(LimitCrossed, match="crosses"):
            check(read_limits(limit), a, b)
    else:
        check(read_limits(limit), a, b)


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ("lut", "must be like lut>"),
        ("lut>=5", "must be like"),
        ("lut>+5%%", "must be like"),
        ("", "must be like"),
        ("lut>5%", "it needs a sign: write lut>\\+5%"),
        ("accuracy<-1%", "in percent already: write accuracy<-1, in points"),
        ("luts>+5%", "unknown figure 'luts' \\(did you mean 'lut'\\?\\)"),
    ],
)
def test_limits_that_say_nothing(limit: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check(read_limits(limit), run(), run())


def test_a_figure_that_is_gone_is_no_pass() -> None:
    with pytest.raises(UsageError, match="FAIL_IF=lut>\\+5%: B has no lut"):
        check(read_limits("lut>+5%"), run(), made_up(GRAPH, figures=(metric("ff", 1),)))


# The commands --------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A runs folder with two runs, a training, one compile half way and one that never ended."""
    folder = tmp_path / "runs"
    save(run(given=("weight_bits=4",)), folder / "four")
    save(run(750, given=("weight_bits=3",)), folder / "three")
    for name in ("models/net-1", "twins/12", "experiments/e-1", ".five.part", "half"):
        (folder / name).mkdir(parents=True)
    return folder


Run_ = Callable[..., Done]


def test_compare_prints_the_short_form(run_here: Run_, runs: Path) -> None:
    done = run_here("compare", "four", runs / "three", "--runs", runs)
    assert done.code == 0 and done.err == ""
    lines = done.out.splitlines()
    assert lines[0] == "A  four" and lines[2] == "B  three"
    assert "option weight_bits: 4 -> 3" in lines
    assert lines[-2] == "B is better: lut -25.0 % (measured); the same accuracy"
    assert lines[-1] == f"page: {runs / 'compare.html'}"
    text = Text((runs / "compare.html").read_text()).text
    assert "B is better: lut -25.0 % (measured)" in text and "weight_bits 4 3" in text


def test_fail_if_is_exit_code_7(run_here: Run_, runs: Path) -> None:
    plain = ("compare", "three", "four", "--runs", runs)
    done = run_here(*plain, "--fail-if", "lut>+5%")
    assert done.code == 7
    assert "lut" in done.out
    assert done.err == "bitwright: error: FAIL_IF: lut: +33.3 % crosses lut>+5%\n"
    assert run_here(*plain, "--fail-if", "lut>+50%").code == 0
    crossed = run_here(*plain, "--fail-if", "energy>-1")
    assert crossed.err.endswith("energy: the same crosses energy>-1\n")
    assert_refused(run_here(*plain, "--fail-if", "lut"), 2, "FAIL_IF must be like")


def test_more_than_two(run_here: Run_, runs: Path) -> None:
    save(run(500), runs / "two")
    done = run_here("compare", "--set", "four three two", "--runs", runs, "--out", "all.html")
    assert done.code == 0
    assert done.out.splitlines() == [
        "four   95.00 % [92.4, 96.7]  weight_bits=4",
        "three  95.00 % [92.4, 96.7]  weight_bits=3",
        "two    95.00 % [92.4, 96.7]",
        "page: all.html",
    ]
    assert Text(Path("all.html").read_text()).text.count("lut") > 1
    limited = ("compare", "--set", "four three two", "--runs", runs, "--fail-if", "lut>1")
    done = run_here(*limited)
    assert done.code == 2 and "FAIL_IF compares A with B; give two runs, not 3" in done.err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("four",), "needs at least two runs"),
        (("four", "tree"), "unknown run 'tree' (did you mean 'three'?)"),
        (("four", "half"), "half is incomplete: it has no manifest.json"),
        (("four", "three", "--out", "x.txt"), "must be a .html file"),
        (("four", "three", "--out", "no/x.html"), "in a folder that is there"),
    ],
)
def test_wrong_use(run_here: Run_, runs: Path, args: tuple[str, ...], says: str) -> None:
    assert_refused(run_here("compare", *args, "--runs", runs), 2, says)
    assert not (runs / "compare.html").exists()


def test_report_of_one_run(run_here: Run_, compiled: Path) -> None:
    done = run_here("report", "--artifact", compiled)
    assert done.code == 0
    assert "matches reference: yes" in done.out
    assert done.out.endswith(f"page: {compiled / 'report.html'}\n")
    assert "(up to date)" not in done.out
    named = run_here("report", "--artifact", compiled.name, "--runs", compiled.parent)
    assert named.out == done.out
    wrong = run_here("report", "--artifact", "nowhere", "--runs", compiled.parent)
    assert_refused(wrong, 2, f"unknown run 'nowhere'; valid: {compiled.name}")


# The index -----------------------------------------------------------------------------------


def test_the_index_shows_every_run(run_here: Run_, runs: Path) -> None:
    done = run_here("report", "--runs", runs)
    assert done.code == 0
    lines = [line.split(maxsplit=1) for line in done.out.splitlines()]
    assert ["half", "incomplete: no manifest.json: its compile did not end; compile again"] in lines
    assert [".five.part", "incomplete: a compile that was stopped, or is under way"] in lines
    assert ["three", "95.00 % [92.4, 96.7]  weight_bits=3"] in lines
    text = Text((runs / "index.html").read_text())
    for word in ("four", "three", "half", ".five.part", "weight_bits=3", "compile did not end"):
        assert word in text.text
    assert not any(word in text.text for word in ("net-1", "twins", "experiments"))
    assert sorted(set(text.links)) == ["data:,", "four/report.html", "three/report.html"]


def test_newest_first(runs: Path) -> None:
    for name, when in (("four", 2000), ("three", 3000)):
        os.utime(runs / name / "manifest.json", (when, when))
    os.utime(runs / "half", (2500, 2500))
    os.utime(runs / ".five.part", (1, 1))
    names = [found.folder.name for found in find_runs(runs)[0]]
    assert names == ["three", "half", "four", ".five.part"]


def test_schedules_are_found_beside_runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only of the newest folders anything is read."""
    for name, when in (("older", 4_000_000_000), ("newer", 4_000_000_001)):
        (runs / name).mkdir()
        body = {"files": {}, "schedule": {}, "summary": f"the {name} one"}
        (runs / name / "manifest.json").write_text(json.dumps(body))
        os.utime(runs / name / "manifest.json", (when, when))
    found, schedules = find_runs(runs)
    assert sorted(each.folder.name for each in found) == [".five.part", "four", "half", "three"]
    assert [each.summary for each in schedules] == ["the newer one", "the older one"]
    (runs / "older" / "manifest.json").write_text('{"files": {}, "schedule": {}}')
    assert any("damaged: KeyError('summary')" in each.problem for each in find_runs(runs)[0])
    monkeypatch.setattr("flow.report.runs.MAX_RUNS", 1)
    assert find_runs(runs) == ([], schedules[:1])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("manifest.json", "{", "manifest.json is damaged"),
        ("manifest.json", "[]", "manifest.json is damaged"),
        ("manifest.json", '{"files": {}}', "knows no report.json"),
        ("report.json", "{", "report.json is damaged"),
        ("report.json", '{"schema": 99}', "of schema '99', this program reads 1 to 3"),
        ("report.json", None, "holds no report.json"),
    ],
)
def test_a_damaged_run_is_shown_and_not_fatal(
    runs: Path, name: str, content: str | None, says: str
) -> None:
    path = runs / "three" / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    indexed = report_all(runs)
    (found,) = [found for found in indexed.found if found.folder.name == "three"]
    assert found.run is None and says in found.problem
    assert says in Text(indexed.page.read_text()).text


def test_names_in_the_index_are_text(tmp_path: Path) -> None:
    save(made_up(GRAPH, model=HOSTILE, given=(f"data={HOSTILE}",)), tmp_path / "a<b>&c")
    text = report_all(tmp_path).page.read_text()
    assert HOSTILE not in text and HOSTILE in Text(text).text
    assert "a%3Cb%3E%26c/report.html" in Text(text).links


def test_no_runs(tmp_path: Path) -> None:
    assert "There is none yet" in Text(report_all(tmp_path).page.read_text()).text
    with pytest.raises(UsageError, match="is no folder with results"):
        report_all(tmp_path / "nowhere")


def test_only_accuracies_of_the_same_data_are_drawn_together(tmp_path: Path) -> None:
    for name, lut, data in (("a", 1, "x"), ("b", 2, "x"), ("c", 3, "y"), ("d", 3, "")):
        save(run(lut, data=data), tmp_path / name)
    found, _ = find_runs(tmp_path)
    body = page(found, tmp_path, "t", newest_first=True)
    assert len(body.encode()) < MAX_PAGE
    charts = json.loads(body.split('id="charts">')[1].split("</script>")[0])["pareto"]
    (drawn,) = charts.values()  # of lut; energy is the same in all
    rows = drawn["data"]["values"]
    assert sorted(row["run"] for row in rows) == ["a", "b"]
    assert {row["run"]: row["best"] for row in rows} == {"a": True, "b": False}


def test_runs_that_differ_from_their_reference_are_not_on_a_front(tmp_path: Path) -> None:
    save(run(1), tmp_path / "a")
    save(run(2, matches=False), tmp_path / "b")
    body = page(find_runs(tmp_path)[0], tmp_path, "t", newest_first=True)
    assert json.loads(body.split('id="charts">')[1].split("</script>")[0])["pareto"] == {}
    assert "3 of 80 outputs differ" in Text(body).text


def test_estimates_keep_their_kind_in_the_short_form() -> None:
    one = dataclasses.replace(metric("lut", 10, Kind.ESTIMATED), name="lut")
    a, b = (
        made_up(GRAPH, figures=(each,)) for each in (one, Metric(**{**vars(one), "value": 10.5}))
    )
    assert "+5.0 %, intervals overlap" in compare.text(a, b)
