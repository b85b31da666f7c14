"""Fronts: what belongs to one, what its table and plot say, and a search from start to end."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flow.cost import rounding_bits
from flow.errors import UsageError
from flow.importer import import_qonnx
from flow.onnx_file import read
from flow.pareto import Search, search
from flow.plan import Events, Plan, Request
from flow.qat.pareto import Point, Trained, cheapest, front, table
from flow.report.plot import Mark, scatter
from models import MODELS
from tests.qat.support import CNN


def point(name: str, accuracy: float, bops: int, rounding: int = 0) -> Point:
    return Point(name, "", (Trained(accuracy, bops, rounding, "fc:4x8"),))


POINTS = [point("a", 90, 100), point("b", 95, 200), point("c", 94, 300), point("d", 99, 900)]


def test_the_front_holds_what_nothing_beats() -> None:
    assert [p.name for p in front(POINTS)] == ["a", "b", "d"]
    assert len(front([POINTS[0], POINTS[0]])) == 2


def test_rounding_is_part_of_the_cost() -> None:
    floor, nearest = point("floor", 95, 200), point("nearest", 95, 200, rounding=10)
    assert front([floor, nearest]) == [floor]
    assert cheapest([nearest, floor], 95) == floor


@pytest.mark.parametrize(("accuracy", "name"), [(89, "a"), (94, "b"), (97, "d"), (99.5, None)])
def test_the_cheapest_point_that_is_good_enough(accuracy: float, name: str | None) -> None:
    found = cheapest(POINTS, accuracy)
    assert (found and found.name) == name


def test_a_table_has_means_over_the_seeds() -> None:
    two = Point("m@1", "rounding=floor", (*POINTS[0].seeds, *POINTS[1].seeds))
    rows = table([POINTS[3], two], uniform=POINTS[3])
    assert rows[1][:4] == ["m@1", "rounding=floor", "92.50", "150"]
    assert rows[1][5] == f"{150 / 900:.3f}"
    assert rows[1][-1] == "90.00/100 95.00/200"


def marks() -> list[Mark]:
    best = front(POINTS)
    return [Mark(p.bops, p.accuracy, 80, 100, p.name, p in best) for p in POINTS]


def test_the_plot_is_an_image_with_every_point_and_always_the_same() -> None:
    drawn = scatter(marks(), "title", "x axis", "y axis")
    texts = {
        "".join(element.itertext()).strip()
        for element in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")
    }
    assert {"a", "b", "c", "d", "title", "x axis", "y axis"} <= texts
    assert drawn == scatter(marks(), "title", "x axis", "y axis")


def test_a_search_has_every_point_with_both_roundings_and_the_uniform_one_first() -> None:
    points = Search("net", weights=("0.5", "2"), uniform=("3",)).points()
    assert points[0] == ("net", {"weight_bits": "4", "act_bits": "4"})
    plain = [p for p in points if "rounding" not in p[1]]
    assert [name for name, _ in plain] == ["net", "net", "net@0.5", "net@2"]
    assert [(name, {**o, "rounding": "floor"}) for name, o in plain] == points[4:]
    assert Search("net", ("0.5", "2"), ("3",), floors=False).points() == plain


def test_a_search_trains_writes_and_names_a_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "small", lambda: CNN)
    notes: list[str] = []
    runs, tables = tmp_path / "runs", tmp_path / "tables"
    given = Search("small", weights=("8",), uniform=(), seeds=1)
    found = search(given, 0.0, runs, tables, Events(note=notes.append))
    assert [note.split(":")[0] for note in notes] == [f"{n} of 4" for n in (1, 2, 3, 4)]
    assert len(list((runs / "twins").iterdir())) == 1
    assert found.found is not None and found.found == found.points[0]
    assert f"make compile MODEL={found.found.name} TARGET=hls4ml" in str(found)

    with found.table.open(newline="") as handle:
        rows = {(row["point"], row["options"]): row for row in csv.DictReader(handle)}
    assert len(rows) == 4
    uniform = rows["small", "weight_bits=4 act_bits=4"]
    floor = rows["small", "weight_bits=4 act_bits=4 rounding=floor"]
    # Closed form: outputs of conv1 (4, 8, 8) and conv2 (6, 2, 2), 4 bits each.
    assert int(uniform["rounding"]) == (4 * 8 * 8 + 6 * 2 * 2) * 4
    assert int(floor["rounding"]) == 0
    assert float(uniform["of_4_bit"]) == 1
    assert float(rows["small@8", ""]["of_4_bit"]) > 0
    ElementTree.parse(found.plot)

    # Any row compiles by its name and options, to the very network that was counted.
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("training.json")}
    options = {"rounding": "floor", "seed": "0"}
    plan = Plan(Request("small@8", "hls4ml", options, runs=runs), Events())
    assert plan.trained is not None
    assert plan.trained.bops == int(rows["small@8", "rounding=floor"]["bops"])
    assert sum(rounding_bits(import_qonnx(read(plan.trained.model), "net").graph).values()) == 0
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("training.json")} == before

    with pytest.raises(UsageError, match=r"no point reaches 100\b"):
        search(given, 100.0, runs, tables, Events())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Search("digits"), "unknown model 'digits'"),
        (Search("digits_cnn", seeds=0), "--seeds must be from 1"),
        (Search("digits_cnn", weights=("cheap",)), "bops_weight must be a finite number"),
        (Search("digits_cnn", uniform=("17",)), "weight_bits must be from 2 to 16, not 17"),
        (Search("digits_cnn", uniform=("0",)), "weight_bits must be from 2 to 16, not 0"),
    ],
)
def test_a_wrong_search_is_refused_before_any_training(
    given: Search, says: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says):
        search(given, None, tmp_path / "runs", tmp_path, Events())
    assert not (tmp_path / "runs").exists()


def test_a_point_of_a_front_is_a_models_name() -> None:
    plan = Plan(Request("digits_cnn@0.5", "hls4ml", {"seed": "3"}), Events())
    assert plan.recipe is not None
    assert (plan.recipe.bops_weight, plan.recipe.seed) == (0.5, 3)
    assert plan.name == "digits_cnn_0_5"
    with pytest.raises(UsageError, match="bops_weight must be a finite number"):
        Plan(Request("digits_cnn@cheap", "hls4ml"), Events())
