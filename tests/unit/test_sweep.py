"""Many options at once: each point as it is alone, and a front that no point is better than."""

from __future__ import annotations

import csv
import json
import math
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.cli import main
from flow.errors import UsageError
from flow.estimate import estimate
from flow.metric import Fit
from flow.plan import Request
from flow.surrogate.front import front
from flow.sweep import MAX_POINTS, Points, read_axes, sweep

WIDE = {"act_bits": "16", "input_bits": "16"}
AXES = (
    "reuse_factor=1..417 weight_bits=2,6,8 strategy=latency,resource "
    "part=xc7z020clg400-1,xcu250-figd2104-2l-e,xc7a100tcsg324-1,xcku5p-ffvb676-2-e"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Points:
    out = tmp_path_factory.mktemp("sweep") / "out"
    estimate(Request("jet_mlp", "hls4ml"))  # loads what is fitted
    begun = time.process_time()
    found = sweep(Request("jet_mlp", "hls4ml", WIDE, out), AXES, "lut dsp latency")
    assert time.process_time() - begun < 10
    assert len(found.options) == 10_008
    return found


def by_definition(costs: np.ndarray) -> np.ndarray:
    """Compare all with all."""
    known = ~np.isnan(costs).any(axis=1)
    return np.array(
        [
            known[a]
            and not any(
                known[b] and (costs[b] <= costs[a]).all() and (costs[b] < costs[a]).any()
                for b in range(len(costs))
            )
            for a in range(len(costs))
        ],
        dtype=bool,
    )


@given(
    st.integers(1, 4).flatmap(
        lambda k: st.lists(
            st.lists(
                st.one_of(st.integers(0, 4).map(float), st.just(math.nan)), min_size=k, max_size=k
            ),
            max_size=25,
        ).map(lambda rows: np.array(rows, dtype=np.float64).reshape(-1, k))
    )
)
def test_a_front_is_what_comparing_all_with_all_gives(costs: np.ndarray) -> None:
    assert (front(costs) == by_definition(costs)).all()


def test_the_fronts_are_of_what_fits_by_network_and_part(made: Points) -> None:
    costs = np.column_stack([made.told.costs[name] for name in ("lut", "dsp", "latency")])
    fits = np.array([fit is Fit.FITS for fit in made.told.fits])
    assert not (made.best & ~fits).any() and made.best.any() and (~fits).any()
    assert len(set(made.group)) == 12
    rng = np.random.default_rng(0)
    for name in sorted(set(made.group))[::5]:
        of = np.array([group == name for group in made.group]) & fits
        rows = np.flatnonzero(of)
        some = rng.permutation(rows)[:60]
        kept = np.union1d(some, np.flatnonzero(of & made.best))
        assert (by_definition(costs[kept]) == made.best[kept]).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_point_is_what_its_options_alone_give(made: Points, seed: int) -> None:
    """The same figures and the same verdict, through the other way into the program."""
    at = int(np.random.default_rng(seed).integers(len(made.options)))
    request = Request("jet_mlp", "hls4ml", {**WIDE, **made.options[at]})
    alone = estimate(request).targets["hls4ml"]
    assert alone.verdict is not None and alone.verdict.fit is made.told.fits[at]
    told = {metric.name: metric for metric in alone.metrics}
    clock = {"latency": 10.0, "interval": 10.0}  # ns
    seen = 0
    for name, spans in made.told.figures.items():
        if np.isnan(spans.likely[at]):
            assert name not in told
            continue
        metric, times, seen = told[name], clock.get(name, 1.0), seen + 1
        assert metric.interval is not None
        for ours, theirs in (
            (spans.low, metric.interval.low),
            (spans.likely, metric.value),
            (spans.high, metric.interval.high),
        ):
            assert ours[at] == pytest.approx(times * theirs)
    assert seen >= 9


def test_table_and_plot(made: Points) -> None:
    with made.table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(made.options)
    at = int(np.flatnonzero(made.best)[0])
    assert rows[at]["front"] == "yes" and rows[at]["fit"] == "fits"
    assert float(rows[at]["lut in HLS report high"]) <= made.told.costs["lut"][at] * 1.00001
    assert "bram_18k by Vivado low" not in rows[0], "of that nothing is known"
    assert sum(row["front"] == "yes" for row in rows) == made.best.sum()
    drawn = made.plot.read_text()
    assert drawn.startswith("<?xml") and "lut" in drawn and "latency, ns" in drawn


def test_what_is_printed(made: Points) -> None:
    text = str(made)
    assert text.startswith("jet_mlp on hls4ml: 10,008 points estimated in ")
    assert "fronts by the upper ends of lut, dsp, latency, of what fits" in text
    assert re.search(r"^  weight_bits=8 part=xc7z020clg400-1(, and)?$", text, re.MULTILINE)
    assert "at most lut " in text and " ns: reuse_factor=" in text
    body = json.loads(json.dumps(made.to_json()))
    assert body["points"] == 10_008 and sum(body["fits"].values()) == 10_008
    assert len(body["front"]) == made.best.sum()


def test_what_is_not_known_is_said_and_never_chosen(tmp_path: Path) -> None:
    """No design with activations of 5 bits was seen: nothing fits for certain."""
    axes = "reuse_factor=1,2 strategy=latency,resource,distributed_arithmetic"
    found = sweep(Request("digits_mlp", "hls4ml", {}, tmp_path / "o"), axes, "dsp")
    assert set(found.told.fits) == {Fit.MAY_NOT} and not found.best.any()
    text = str(found)
    assert "no point fits for certain" in text
    assert "not known whole: fc1: none with bits like its were seen" in text
    assert "1 more are refused: option reuse_factor must be N with" in text


@pytest.mark.parametrize(
    ("axes", "chosen", "message"),
    [
        ("", "lut", "SWEEP must name options with values, such as reuse_factor"),
        ("reuse_factor", "lut", r"SWEEP: 'reuse_factor' must be of the form key=value"),
        ("reuse_factor=1 reuse_factor=2", "lut", "SWEEP: 'reuse_factor' is given twice"),
        ("reuse_factor=1,,2", "lut", "reuse_factor has an empty value"),
        ("reuse_factor=1..x", "lut", r"reuse_factor must be values, or like 2..14"),
        ("reuse_factor=9..1", "lut", "reuse_factor=9..1 must ascend"),
        ("reuse_factor=0..8*2", "lut", "must ascend"),
        ("reuse_factor=1..8*1", "lut", "must ascend"),
        ("reuse_factor=1..8+0", "lut", "must ascend"),
        ("reuse_factor=1..999999999", "lut", "has more than 200,000 values"),
        ("reuse_factor=1..1000 clock_ns=1..1000", "lut", "1,000,000 combinations are too many"),
        ("reuse_facto=1", "lut", r"unknown option 'reuse_facto' \(did you mean 'reuse_factor'"),
        ("reuse_factor=0", "lut", "option reuse_factor must be from"),
        ("weight_bits=99", "lut", "weight_bits"),
        ("strategy=fast", "lut", "option strategy must be one of"),
        ("reuse_factor=1", "luts", r"unknown figure of FRONT 'luts' \(did you mean 'lut'"),
        ("reuse_factor=1", " ", "FRONT must name figures"),
        ("backend=Quartus strategy=resource", "lut", "of others no design was seen"),
        ("act_bits=8,16", "lut", "act_bits is given in OPTS too"),
    ],
)
def test_wrong_sweeps_are_refused(tmp_path: Path, axes: str, chosen: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sweep(Request("jet_mlp", "hls4ml", WIDE, tmp_path / "o"), axes, chosen)
    assert not (tmp_path / "o").exists()


def test_targets_without_anything_to_sweep_say_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="use TARGET=hls4ml"):
        sweep(Request("jet_mlp", "tflite", {}, tmp_path / "o"), "weight_bits=2,3", "lut")


def test_ranges() -> None:
    assert read_axes("a=1..4 b=2..9+3 c=1..64*4 d=x,y,x e=5")["a"] == ["1", "2", "3", "4"]
    found = read_axes("a=1..4 b=2..9+3 c=1..64*4 d=x,y,x e=5,4..6")
    assert found["b"] == ["2", "5", "8"] and found["c"] == ["1", "4", "16", "64"]
    assert found["d"] == ["x", "y"] and found["e"] == ["5", "4", "6"]
    assert MAX_POINTS >= 10_000


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["estimate", "--model", "jet_mlp", "--target", "hls4ml", "--runs", str(tmp_path)]
    wide = ["--opts", "act_bits=16 input_bits=16 weight_bits=8 strategy=resource"]
    axes = ["--sweep", "reuse_factor=64..512*2", "--front", "lut energy"]
    assert main([*given, *wide, *axes, "--json"]) == 0
    body = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert body["chosen_by"] == ["lut", "energy"] and body["front"]
    assert (tmp_path / "sweep-jet_mlp-hls4ml" / "points.csv").is_file()
    assert main([*given, "--front", "lut"]) == 2
    assert "FRONT and OUT are of SWEEP" in capsys.readouterr().err
