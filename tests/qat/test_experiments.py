"""The arithmetic behind the tables of experiments and Pareto fronts."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from flow.errors import UsageError
from flow.options import split_assignments
from flow.plan import Events, Plan, Request
from flow.qat.recipe import apply_options
from tests.bench import pareto
from tests.bench.experiments import EXPERIMENTS, FLOAT, Experiment, Interval, main, table, verdict
from tests.bench.pareto import Point, cheapest, front, svg


def test_interval_is_students() -> None:
    # Four values, three degrees of freedom: t = 3.18245 at 95 %.
    interval = Interval.of([1.0, 2.0, 3.0, 4.0])
    assert interval.mean == 2.5
    assert interval.half == pytest.approx(3.18245 * math.sqrt(5 / 3) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.1, 0.5, "shown"), (-0.5, -0.1, "the opposite is shown"), (-0.1, 0.2, "not shown")],
)
def test_a_verdict_needs_an_interval_without_zero(low: float, high: float, words: str) -> None:
    found = verdict(Interval((low + high) / 2, (high - low) / 2))
    assert found.startswith(words)


def test_a_table_compares_in_pairs() -> None:
    arms = {"a": "rule=ste", "b": "rule=daq"}
    experiment = Experiment("", EXPERIMENTS["daq_vs_ste"].recipe, arms, [("b", "a")])
    rows = table(experiment, {FLOAT: [99.0] * 3, "a": [90.0, 80, 70], "b": [91.0, 82, 73]})
    by_name = {row[0]: row for row in rows}
    assert by_name["b"][3] == f"2.00 ± {4.302653 / math.sqrt(3):.2f}"
    assert by_name["b"][4:6] == ["3", "0"]
    assert by_name["b > a"][-1].startswith("not shown")  # 2.00 +- 2.48


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_made_of_recipes(name: str) -> None:
    experiment = EXPERIMENTS[name]
    digests = {
        apply_options(experiment.recipe, split_assignments(options)).digest()
        for options in experiment.arms.values()
    }
    assert len(digests) == len(experiment.arms) >= 2
    for claim in experiment.claims:
        assert set(claim) <= {*experiment.arms, FLOAT}


def test_an_unknown_experiment_or_model_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown experiment 'daq'"):
        main("daq")
    with pytest.raises(UsageError, match="unknown model"):
        pareto.main("digits", None)


def point(name: str, accuracy: float, bops: float) -> Point:
    return Point(name, "", accuracy, bops, "", "")


POINTS = [point("a", 90, 100), point("b", 95, 200), point("c", 94, 300), point("d", 99, 900)]


def test_the_front_holds_what_nothing_beats() -> None:
    assert [p.name for p in front(POINTS)] == ["a", "b", "d"]
    assert len(front([POINTS[0], POINTS[0]])) == 2


@pytest.mark.parametrize(("accuracy", "name"), [(89, "a"), (94, "b"), (97, "d"), (99.5, None)])
def test_the_cheapest_point_that_is_good_enough(accuracy: float, name: str | None) -> None:
    found = cheapest(POINTS, accuracy)
    assert (found and found.name) == name


def test_the_plot_is_an_image_with_every_point() -> None:
    root = ElementTree.fromstring(svg(POINTS))
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"a", "b", "c", "d"} <= texts


def test_a_point_of_a_front_is_a_models_name() -> None:
    plan = Plan(Request("digits_cnn@0.5", "hls4ml", {"seed": "3"}), Events())
    assert plan.recipe is not None
    assert (plan.recipe.bops_weight, plan.recipe.seed) == (0.5, 3)
    assert plan.name == "digits_cnn_0_5"
    with pytest.raises(UsageError, match="bops_weight must be a finite number"):
        Plan(Request("digits_cnn@cheap", "hls4ml"), Events())
