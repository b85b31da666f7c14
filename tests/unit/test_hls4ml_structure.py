"""hls4ml's layers in closed form, by hand and against what Vitis and Vivado HLS reported."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from flow.surrogate.hls4ml import NO_PRODUCT, Reused, cycles, interval, nearest_reuse
from flow.surrogate.structure import Range

DATA = Path(os.environ.get("BITWRIGHT_DATA", "../shared/data")) / "surrogate"


def rows(name: str) -> list[dict[str, str]]:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path} is not there; set BITWRIGHT_DATA to a folder with surrogate/")
    with path.open() as file:
        return list(csv.DictReader(file))


def searched() -> list[tuple[Reused, dict[str, float]]]:
    found = []
    for row in rows("wa_hls4ml_search_1layer/results_resource.csv"):
        if row["hls_synth_success"] == "True":
            shape = (int(row[key]) for key in ("d_in", "d_out", "rf", "prec"))
            told = {key: float(text) for key, text in row.items() if key.endswith("_hls")}
            found.append((Reused(*shape), told))
    assert len(found) == 906
    return found


def test_a_layer_by_hand() -> None:
    """64 x 32 weights of 8 bits, each multiplier for 512 of them: 4, each of which adds to 8 sums
    of 32; words of 32 bits in 512 lines are one block of RAM."""
    made = Reused(64, 32, 512, 8)
    assert (made.multipliers, made.memory, made.block_rams) == (4, (32, 512), 1)
    assert (made.dsps, made.steering, made.latency) == (Range.exactly(4), 4 * 32, (513, 514))
    assert Reused(64, 33, 64 * 11, 8).steering == 3 * 64  # six bits number 33 sums
    assert Reused(64, 32, 128, 8).steering == 16 * 2
    assert Reused(64, 32, 32, 8).steering == 64
    assert Reused(64, 32, 512, 4).dsps == Range.exactly(0)
    assert Reused(64, 32, 512, 6).dsps == Range(0, 4, 4)
    assert Reused(64, 32, 512, 8, 8).dsps.low == 0  # narrow activations: not known
    assert Reused(64, 32, 1, 8).dsps.low == 0  # constants
    assert Reused(64, 32, 512, 20, 20).dsps.high == 16
    assert (Reused(64, 32, 1, 8).block_rams, Reused(64, 32, 1, 8).latency) == (0, (0, 1))


def test_a_network_by_hand() -> None:
    assert cycles(512 + 64, 2) == (577, 579, 581)
    assert cycles(1, 1, scales=2)[-1] == 5
    assert (interval([4, 16]).low, interval([4, 16]).high) == (16, 17)
    assert nearest_reuse([1, 2, 4, 8], 6) == 4
    assert nearest_reuse([1, 2, 4, 8], 7) == 8


def test_cycles_are_those_of_vitis_hls() -> None:
    """All rows; with a reuse factor above 1 the exact number."""
    seen: Counter[str] = Counter()
    for made, told in searched():
        ends = told["BestLatency_hls"], told["WorstLatency_hls"]
        initiation = told["IntervalMin_hls"], told["IntervalMax_hls"]
        assert interval([made.reuse]).low <= initiation[0] <= initiation[1]
        assert initiation[1] <= interval([made.reuse]).high
        if made.reuse == 1:
            assert 0 <= ends[0] <= ends[1] <= made.latency[1]
            continue
        assert ends == made.latency
        assert initiation == (made.reuse, made.reuse)
        seen["sum(RF)+2L-1" if ends[0] == cycles(made.reuse, 1)[1] else "one less"] += 1
    assert seen == {"sum(RF)+2L-1": 830, "one less": 41}


def test_dsps_are_those_of_vitis_hls() -> None:
    """All rows lie within what is told, and where it is told exactly they are equal."""
    exact = 0
    for made, told in searched():
        assert made.dsps.low <= told["DSP_hls"] <= made.dsps.high
        exact += made.dsps.low == made.dsps.high and made.reuse > 1
    assert exact == 747
    assert sum(m.weight_bits <= NO_PRODUCT and m.reuse == 1 for m, _ in searched()) == 10


def test_dsps_are_those_of_vivado_hls() -> None:
    """16-bit weights; rows are averages over networks, in a few of which a product was less."""
    exact: Counter[bool] = Counter()
    for row in rows("ntorc/dense_resources_collapsed.csv"):
        names = ("n_inputs_resources", "dense_size_resource", "correct_reuse_factor_dense_resource")
        inputs, outputs, reuse = (int(row[name]) for name in names)
        made, dsps = Reused(inputs, outputs, reuse, 16), float(row["dsp48e"])
        if reuse == 1:
            assert made.dsps.low <= dsps <= made.dsps.high
            continue
        assert made.dsps == Range.exactly(made.multipliers)
        assert made.multipliers - 1 < dsps <= made.multipliers
        exact[dsps == made.multipliers] += 1
    assert exact == {True: 5645, False: 2}
