"""Studies of noisy hardware: each against what its points mean, run by themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from flow.errors import UsageError
from targets.analog import study
from targets.analog.build import equip
from targets.analog.chips import Question
from targets.analog.device import Device, device_text, read_device
from targets.analog.engine import Engine, Hardware
from targets.analog.montecarlo import Wanted
from targets.analog.programmed import Condition
from targets.analog.study import Bench, Study, Told, answer
from targets.analog.target import Analog
from tests.targets.analog_nets import layers_of
from tests.targets.test_analog_chips import GRAPH, trial

PCM = read_device("pcm", device_text("pcm"))
CHIPS = 40


def bench(state: Path, floor: float = 0.0, enough: float = 0.8, device: Device = PCM) -> Bench:
    question = Question(Wanted(CHIPS), Condition(), 0, floor)
    layers = layers_of(GRAPH, device)
    return Bench(GRAPH, layers, device, {}, question, enough, trial(state, 200))


def by_name(told: Told) -> dict[str, float]:
    return {metric.name: metric.value for metric in told.metrics}


def accuracy(device: Device, condition: Condition, state: Path, only: int | None = None) -> float:
    """Of the same chips, straight from the engine."""
    layers = layers_of(GRAPH, device)
    layers = layers if only is None else layers[only : only + 1]
    given = trial(state, 200)
    outputs = Engine(GRAPH, layers, Hardware(device, condition, 0)).run(given.codes, range(CHIPS))
    assert given.right is not None
    flat = outputs.reshape(-1, outputs.shape[-1])
    return float(given.right(flat, np.tile(np.arange(200), CHIPS)).mean())


def test_points_are_what_they_say(tmp_path: Path) -> None:
    found = by_name(answer(Study.TIME, bench(tmp_path)))
    assert len(found) == len(study.TIMES_S)
    assert found["at 3600 s"] == pytest.approx(accuracy(PCM, Condition(3600.0), tmp_path))
    found = by_name(answer(Study.NOISE, bench(tmp_path)))
    assert found["at 2 x noise"] == pytest.approx(accuracy(PCM, Condition(noise=2.0), tmp_path))
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert PCM.adc is not None
    coarse = replace(PCM, adc=replace(PCM.adc, bits=5))
    found = by_name(answer(Study.ADC_BITS, bench(tmp_path)))
    assert found["at 5 ADC bits"] == pytest.approx(accuracy(coarse, Condition(), tmp_path))
    found = by_name(answer(Study.LAYERS, bench(tmp_path)))
    assert found["only n3 noisy"] == pytest.approx(accuracy(PCM, Condition(), tmp_path, only=1))
    assert found["all but n3 noisy"] == found["only n1 noisy"]  # the same arrays


def test_the_layer_to_keep_digital_is_the_one_that_costs_most(tmp_path: Path) -> None:
    found = answer(Study.LAYERS, bench(tmp_path))
    values = by_name(found)
    worst = min(("n1", "n3"), key=lambda name: values[f"only {name} noisy"])
    assert f"by digital_layers={worst}" in found.notes[0]


@pytest.mark.parametrize("floor", [0.75, 0.9])
def test_the_budget_is_the_edge(tmp_path: Path, floor: float) -> None:
    asked = bench(tmp_path, floor)
    (metric,) = answer(Study.BUDGET, asked).metrics
    inside, outside = (
        asked.good(study._with_noise(asked, metric.value + more)).low for more in (0, study.FINEST)
    )
    assert inside >= 0.8 > outside


def test_a_budget_can_be_none(tmp_path: Path) -> None:
    told = answer(
        Study.BUDGET, bench(tmp_path, 1.0, device=replace(PCM, adc=replace(PCM.adc, bits=4)))
    )  # type: ignore[type-var]
    assert told.metrics == () and "no noise is little enough" in told.notes[0]


def test_the_fewest_bits_yield_enough_and_one_less_does_not(tmp_path: Path) -> None:
    asked = bench(tmp_path, 0.8)
    (note, plot) = answer(Study.ADC_BITS, asked).notes
    bits = int(note.split()[0])
    assert "ADC bits are the fewest so that at least 80 % of chips" in note and "plot" in plot
    assert PCM.adc is not None
    enough, less = (asked.good(study._with_bits(asked, PCM.adc, n)).low for n in (bits, bits - 1))
    assert enough >= 0.8 > less
    none = bench(tmp_path, 1.0)
    assert answer(Study.ADC_BITS, none).notes[0].startswith("no ADC of up to ")


@pytest.mark.parametrize(
    "asked", [Study.TIME, Study.NOISE, Study.ADC_BITS, Study.LAYERS, Study.BUDGET]
)
def test_a_study_is_plotted(tmp_path: Path, asked: Study) -> None:
    told = answer(asked, bench(tmp_path, 0.8 if asked is Study.BUDGET else 0.0))
    (path,) = (tmp_path / f"study_{asked.value}.svg",)
    assert told.notes[-1] == f"plot: {path}" and told.plot is not None
    root = ElementTree.fromstring(path.read_text())
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {told.plot.x, told.plot.y} <= set(texts)
    if asked is Study.LAYERS:
        assert {metric.name for metric in told.metrics} <= set(texts)
    again = path.read_bytes()
    answer(asked, bench(tmp_path, 0.8 if asked is Study.BUDGET else 0.0))
    assert path.read_bytes() == again


def test_the_budgets_plot_is_of_the_yields_that_were_seen(tmp_path: Path) -> None:
    """Those of the multipliers that were tried, in order, each with its interval; the budget's is
    the last that is enough."""
    asked = bench(tmp_path, 0.8)
    told = answer(Study.BUDGET, asked)
    assert told.plot is not None and told.plot.places == tuple(sorted(told.plot.places))
    assert {0.0, study.LARGEST} <= set(told.plot.places)
    enough = []
    for noise, point in zip(told.plot.places, told.plot.points, strict=True):
        shares = study._with_noise(asked, noise).mean(axis=1)
        assert point.value == (shares >= 0.8).mean()
        assert point.interval is not None and point.interval.low <= point.value
        enough.append(point.interval.low >= 0.8)
    assert told.metrics[0].value == told.plot.places[enough.index(False) - 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "rram", "study": "time"}, "study=time is of devices that drift"),
        ({"device": "ideal", "study": "adc_bits"}, "study=adc_bits is of devices with ADCs"),
        ({"device": "ideal", "study": "noise"}, "study=noise is of devices with noise"),
        ({"study": "budget"}, "give floor, as floor=0.95"),
        ({"study": "all"}, "study must be one of none, time"),
        ({"enough": "2"}, "enough must be from 0 to 1"),
    ],
)
def test_studies_that_make_no_sense(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        Analog().with_options(options)
    assert message in str(raised.value)


def test_layers_equipped_again_are_the_same() -> None:
    layers = layers_of(GRAPH, PCM)
    mapped = {layer.number: layer.mapped for layer in layers}
    assert [each.converter for each in equip(mapped, PCM, {})] == [e.converter for e in layers]
