"""Formula, trees and intervals: what is learned, what holds, and what is refused."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.binomial import exact_share
from flow.errors import FlowError, UsageError
from flow.surrogate.conformal import group_quantile
from flow.surrogate.designs import SEARCH, read_ntorc, read_search
from flow.surrogate.estimator import Estimator
from flow.surrogate.evaluate import false_feasible, grouped_share, require_apart, score
from flow.surrogate.fit import Rows, fit, fitted_formula, folds, forest
from flow.surrogate.hls4ml import Reused, Way, features, terms
from flow.surrogate.store import ABOUT, ARRAYS, Fitted, load, save, shipped
from flow.surrogate.trees import Forest
from tests.bench import estimators as bench

HEAD = (
    "model_name,d_in,d_out,prec,model_file,rf,strategy,hls_synth_success,"
    "FF_hls,LUT_hls,BRAM_18K_hls"
)


def drawn(count: int, noise: float, seed: int = 0, largest: float = 6.0) -> Rows:
    """Designs of `count` shapes in five variants: 3 * size + 5 * bits * size, times what two
    features decide that the formula does not know, times what is of a shape alone, and noise."""
    rng = np.random.default_rng(seed)
    size = np.repeat(rng.uniform(2, largest, count), 5)
    bits = np.tile([2.0, 4.0, 6.0, 8.0, 10.0], count)
    features = np.column_stack([size, bits])
    terms = np.column_stack([2**size, 2**size * bits, np.ones(len(size))])
    own = np.repeat(rng.normal(0, noise, count), 5) + rng.normal(0, noise / 4, len(size))
    label = (3 * terms[:, 0] + 5 * terms[:, 1]) * np.exp(0.3 * (bits > 5) * (size > 4) + own)
    return Rows(features, terms, label, np.repeat(np.arange(count), 5), 1, (0, 0))


@pytest.fixture(scope="module")
def made() -> Estimator:
    return fit(drawn(60, 0.05), trees=40)


def test_factors_are_found_where_the_formula_is_right() -> None:
    rows = drawn(30, 0.0)
    label = rows.terms @ np.array([3.0, 0.5, 7.0])
    assert fitted_formula(rows.terms, label) == pytest.approx([3.0, 0.5, 7.0], rel=1e-4)
    few = fitted_formula(rows.terms, np.maximum(label - 2 * rows.terms[:, 2], 0))
    assert (few >= 0).all()


def test_trees_are_scikit_learn_s() -> None:
    """Differential: evaluated here as there, on rows it did not see."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    from flow.surrogate.fit import LEAVES, RATE

    rng = np.random.default_rng(0)
    given, test = rng.normal(size=(300, 4)), rng.normal(size=(200, 4))
    label = np.sin(given[:, 0]) * given[:, 1] + given[:, 3]
    theirs = HistGradientBoostingRegressor(
        max_iter=30,
        max_leaf_nodes=LEAVES,
        learning_rate=RATE,
        min_samples_leaf=7,
        early_stopping=False,
        random_state=0,
        monotonic_cst=[0, 0, 0, 1],
    ).fit(given, label)
    ours = forest(given, label, (0, 0, 0, 1), 30)
    assert ours.predict(test) == pytest.approx(theirs.predict(test), abs=1e-12)


def test_what_cannot_fall_does_not() -> None:
    rng = np.random.default_rng(0)
    given = rng.uniform(size=(400, 2))
    label = given[:, 0] + rng.normal(0, 0.3, 400)
    line = np.column_stack([np.linspace(0, 1, 101), np.full(101, 0.5)])
    rising = forest(given, label, (1, 0)).predict(line)
    assert (np.diff(rising) >= 0).all()
    assert (np.diff(forest(given, label, (0, 0)).predict(line)) < 0).any()


def test_residuals_are_learned(made: Estimator) -> None:
    """Of unseen shapes the formula alone is off by the 30 % that it does not know of."""
    test = drawn(40, 0.0, seed=1)
    told = made.estimate(test.features, test.terms)
    inside = ~told.outside
    assert inside.mean() > 0.8

    def off(values: np.ndarray) -> float:
        return float(np.quantile(np.abs(values / test.label - 1)[inside], 0.9))

    assert off(told.value) < 0.12 < off(made.formula(test.terms))


def test_intervals_hold_for_shapes_that_were_not_seen() -> None:
    """Nominal 90 %, over six fits; what the shapes have of their own is most of the error, so
    that calibration on what was fitted would be too narrow."""
    held, narrow, count = 0, 0, 0
    for seed in range(6):
        rows, test = drawn(40, 0.1, seed), drawn(100, 0.1, 100 + seed)
        found = fit(rows, trees=15)
        told = found.estimate(test.features, test.terms)
        held += int(((told.low <= test.label) & (test.label <= told.high)).sum())
        seen = found.estimate(rows.features, rows.terms)
        width = np.quantile(np.abs(np.log1p(rows.label) - np.log1p(seen.value)), 0.9)
        near = np.abs(np.log1p(test.label) - np.log1p(told.value)) <= width
        narrow += int(near.sum())
        count += len(test)
    assert 0.87 <= held / count <= 0.96
    assert narrow / count < 0.87


def test_small_designs_are_told_less_exactly() -> None:
    """Where errors are larger, intervals are, and they hold at either end."""
    rng = np.random.default_rng(0)
    size = rng.uniform(0, 12, 1400)
    label = 2**size * np.exp(rng.normal(0, 0.5 / (1 + size)))
    rows = Rows(size[:, None], 2 ** size[:, None], label, np.arange(1400), 1, (0,))
    known = np.arange(1400) < 700
    made = fit(rows.take(known), trees=10)
    assert len(made.inside) == 6 and made.inside[0] > 3 * made.inside[-1]
    test = rows.take(~known)
    told = made.estimate(test.features, test.terms)
    held = (told.low <= test.label) & (test.label <= told.high)
    for end in (size[~known] < 4, size[~known] > 8):
        assert 0.84 <= held[end].mean() <= 0.97


def test_outside_the_hull_is_said_and_wider(made: Estimator) -> None:
    rows = drawn(60, 0.05)
    beyond = np.array([[9.0, 6.0], [4.0, 6.0], [4.0, 60.0]])
    terms = np.column_stack([2 ** beyond[:, 0], 2 ** beyond[:, 0] * beyond[:, 1], np.ones(3)])
    told = made.estimate(beyond, terms)
    assert told.outside.tolist() == [True, False, True]
    assert made.hull.strange(beyond).any(axis=1).tolist() == [False, False, True]
    ratio = told.high / told.value
    assert ratio[0] > ratio[1]
    assert made.hull.holds(rows.features).all()
    # A correction goes no further than any that was seen.
    assert np.log1p(told.value[0]) - np.log1p(made.formula(terms)[0]) <= made.most + 1e-9


def test_a_hole_among_the_designs_is_outside() -> None:
    rows = drawn(80, 0.0)
    hole = (rows.features[:, 0] > 3) & (rows.features[:, 0] < 5)
    found = fit(rows.take(~hole), trees=10)
    told = found.estimate(rows.features[hole], rows.terms[hole])
    middle = np.abs(rows.features[hole, 0] - 4) < 0.2
    assert middle.any() and told.outside[middle].all()
    near = replace(found, hull=replace(found.hull, reach=2.0))
    assert not near.estimate(rows.features[hole], rows.terms[hole]).outside.any()


# Intervals -------------------------------------------------------------------------------------


def test_groups_count_once() -> None:
    """Nine groups of one error each, 1 to 9, and one of a thousand errors of 0: of eleven places,
    one is missing."""
    errors = np.concatenate([np.arange(1.0, 10.0), np.zeros(1000)])
    groups = np.concatenate([np.arange(9), np.full(1000, 9)])
    assert group_quantile(errors, groups, 1 / 11) == 0
    assert group_quantile(errors, groups, 5 / 11) == 4
    assert group_quantile(errors, groups, 0.9) == 9
    assert group_quantile(errors, groups, 0.99) == 9  # none is larger


def test_the_quantile_holds_for_a_new_group() -> None:
    """By simulation: errors that are mostly of their group."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        own = rng.exponential(size=21)
        sizes = rng.integers(1, 8, 20)
        groups = np.repeat(np.arange(20), sizes)
        bound = group_quantile(own[groups] + rng.uniform(0, 0.1, len(groups)), groups, 0.8)
        held += int(own[20] + rng.uniform(0, 0.1) <= bound)
    assert 0.76 <= held / 400 <= 0.86


@settings(max_examples=25)
@given(total=st.integers(1, 120), data=st.data())
def test_clopper_and_pearson(total: int, data: st.DataObject) -> None:
    """Against scipy's binomial distribution."""
    from scipy.stats import binomtest

    hits = data.draw(st.integers(0, total))
    theirs = binomtest(hits, total).proportion_ci(0.95, "exact")
    ours = exact_share(hits, total)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


# Measures --------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    label, value = np.array([100.0, 200.0, 400.0]), np.array([110.0, 200.0, 300.0])
    found = score(label, value, value - 10, value + 10)
    assert found.smape == pytest.approx(200 / 3 * (10 / 211 + 100 / 701))
    assert (found.median, found.tau) == (pytest.approx(10), 1)
    assert found.r2 == pytest.approx(1 - 10100 / np.square(label - label.mean()).sum())
    assert found.covered == pytest.approx(200 / 3)
    assert found.covered_within is not None and found.covered_within.low < 100 * 2 / 3


def test_what_is_said_to_fit_and_does_not() -> None:
    label = np.arange(1.0, 12.0)  # parts of 2 to 10
    assert false_feasible(label, label) == 0
    assert false_feasible(label, label + 5) == 0
    assert false_feasible(label, np.zeros(11)) == 100
    assert 0 < false_feasible(label, label - 1) < 100


def test_a_leak_stops_the_run() -> None:
    keys = [(1, 2), (1, 3), (1, 2)]
    require_apart(keys, np.array([True, False, True]))
    with pytest.raises(FlowError, match=r"leaks: 1 configurations .* \(1, 2\)"):
        require_apart(keys, np.array([True, False, False]))


@given(count=st.integers(1, 12), groups=st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_folds_hold_out_whole_groups_once(count: int, groups: list[int]) -> None:
    group = np.array(groups)
    held = list(folds(group, count))
    assert (np.sum(held, axis=0) == 1).all()
    for out in held:
        require_apart(groups, out)


# Files -----------------------------------------------------------------------------------------


def test_what_is_saved_is_read(made: Estimator, tmp_path: Path) -> None:
    about = {"table": "drawn", "tool": "a generator", "designs": 300}
    save(tmp_path, {"a/b": Fitted(made, about)})
    first = (tmp_path / ARRAYS).read_bytes()
    found = load(tmp_path)["a/b"]
    rows = drawn(10, 0.1, 5, largest=8.0)
    one, two = (e.estimate(rows.features, rows.terms) for e in (made, found.estimator))
    for name in ("value", "low", "high", "outside"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert found.source == "a generator: fitted on 300 designs of drawn"
    save(tmp_path, {"a/b": found})
    assert (tmp_path / ARRAYS).read_bytes() == first


@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "other", "pickle", "lost"])
def test_damaged_coefficients_are_refused(damage: str, made: Estimator, tmp_path: Path) -> None:
    save(tmp_path, {"a": Fitted(made, {"table": "", "tool": "", "designs": 1})})
    path = tmp_path / ARRAYS
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "missing":
        path.unlink()
    elif damage == "other":
        (tmp_path / ABOUT).write_text(json.dumps({"b": {}}))
    elif damage == "lost":
        (tmp_path / ABOUT).write_text("{")
    else:
        np.savez(path, **{"a/numbers": np.array([object()])})
    with pytest.raises(FlowError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"left": np.array([[7]])}, "nodes of their own"),
        ({"feature": np.array([[-1]])}, "features that there are"),
        ({"value": np.array([[np.nan]])}, "finite"),
        ({"depth": 2}, "no deeper"),
        ({"right": np.zeros((2, 1), np.int64)}, "one shape"),
    ],
)
def test_trees_that_lead_nowhere_are_refused(change: dict[str, object], said: str) -> None:
    zero, whole = np.zeros((1, 1)), np.zeros((1, 1), dtype=np.int64)
    fields = {"base": 0.0, "feature": whole, "threshold": zero, "left": whole, "right": whole}
    plain = {**fields, "value": zero, "depth": 0}
    assert Forest(**plain).predict(np.zeros((3, 1))).tolist() == [0, 0, 0]
    with pytest.raises(UsageError, match=said):
        Forest(**{**plain, **change})


def table(folder: Path, *rows: str, head: str = HEAD) -> Path:
    for name in SEARCH.files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("\n".join([head, *rows]) + "\n")
    return folder


def test_a_table_of_designs_is_read(tmp_path: Path) -> None:
    rows = ("a,32,64,8,f,512,resource,True,10,20,3", "b,32,64,8,f,512,latency,True,1,2,0")
    failed = "c,32,64,8,f,512,resource,False,,,"
    reused, unrolled = read_search(table(tmp_path, *rows, failed))
    assert reused.made == (Reused(32, 64, 512, 8),) * 2  # of either file
    assert unrolled.made == (Reused(32, 64, 1, 8),) * 2
    assert reused.labels["lut"].tolist() == [20, 20]


@pytest.mark.parametrize(
    ("rows", "head", "said"),
    [
        ((), HEAD, "is empty"),
        (("a,32,64,8,f,512,resource,True,10,x,3",), HEAD, r"line 2 .* LUT_hls .* not 'x'"),
        (("a,32,64,8,f,512,resource,True,10,-1,3",), HEAD, "LUT_hls must be a number from 0 on"),
        (("a,32,64,8,f,512,resource,True,10,nan,3",), HEAD, "not 'nan'"),
        (("a,0,64,8,f,512,resource,True,10,1,3",), HEAD, "d_in must be a whole number from 1 on"),
        (("a,32,64,8,f,512,resource,True,10,1,3",), HEAD, "no design that is unrolled"),
        (("a,32",), HEAD, "line 2 is no design: 2 cells, not 11"),
        (("a,32,64",), "model_name,d_in,d_out", "hls_synth_success is missing"),
    ],
)
def test_damaged_tables_are_refused(
    rows: tuple[str, ...], head: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        read_search(table(tmp_path, *rows, head=head))


def test_tables_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read.*BITWRIGHT_DATA"):
        read_ntorc(tmp_path)


# What ships ------------------------------------------------------------------------------------


def test_what_ships_names_its_source() -> None:
    own = {name: fitted for name, fitted in shipped().items() if name.startswith("own/")}
    assert (len(shipped()), len(own)) == (14, 6)
    for name, fitted in shipped().items():
        ours = fitted.about["licence"] == "this project's"
        assert ours == (name in own) and (ours or fitted.about["licence"] in ("Apache-2.0", "MIT"))
        assert all(len(digest) == 64 for digest in fitted.about["sha256"].values())
        made = fitted.estimator
        assert (made.inside > 0).all() and (made.inside <= made.outside).all()


def test_a_thousand_estimates_take_a_second_and_no_library() -> None:
    """One by one, in a process that loads neither torch nor scikit-learn nor scipy."""
    code = (
        "import sys, time\n"
        "from flow.surrogate.hls4ml import Reused, Way, features, terms\n"
        "from flow.surrogate.store import shipped\n"
        "found = [f.estimator for f in shipped().values() if f.about['way'] == 'reused']\n"
        "begun = time.process_time()\n"
        "for n in range(1000):\n"
        "    one = [Reused(32 + n % 200, 64, 512, 8)]\n"
        "    found[n % len(found)].estimate(features(one), terms(one, Way.REUSED))\n"
        "print(time.process_time() - begun)\n"
        "print([m for m in ('torch', 'sklearn', 'scipy') if m in sys.modules])\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    seconds, loaded = done.stdout.splitlines()
    assert float(seconds) < 1
    assert loaded == "[]"


def test_what_ships_knows_its_limits() -> None:
    lut = shipped()["wa-hls4ml-search/reused/lut"].estimator
    cases = [Reused(128, 64, 512, 8), Reused(2048, 512, 512, 8), Reused(128, 64, 512, 8, 5)]
    told = lut.estimate(features(cases), terms(cases, Way.REUSED))
    assert told.outside.tolist() == [False, True, True]
    strange = lut.hull.strange(features(cases)).any(axis=1)
    assert strange.tolist() == [False, False, True]  # activations of 5 bits: never seen
    begun = time.process_time()
    lut.estimate(features(cases * 300), terms(cases * 300, Way.REUSED))
    assert time.process_time() - begun < 2


# The error table -------------------------------------------------------------------------------


def test_no_configuration_is_fitted_and_tested_on() -> None:
    """The splits of the error table, on the real designs; `random` shares shapes, not these."""
    if not bench.DATA.is_dir():
        pytest.skip(f"{bench.DATA} is not there; set BITWRIGHT_DATA to a folder with surrogate/")
    for case in bench.cases():
        found = dict(bench.splits(case))
        for held in found.values():
            for out in held:
                assert 0 < out.sum() < len(out)
                require_apart(case.keys, out)
        for out in found.get("shape", []):
            require_apart([key[:2] for key in case.keys], out)
        for out in found.get("precision", []):
            require_apart([key[3:] for key in case.keys], out)


def test_the_error_table_is_as_good_as_is_said() -> None:
    with bench.OUT.open() as file:
        rows = {(r["table"], r["label"], r["split"], r["method"]): r for r in csv.DictReader(file)}

    def error(table: str, split: str, method: str) -> tuple[float, float]:
        row = rows[table, "lut", split, method]
        return float(row["median_pct"]), float(row["p90_pct"])

    ours, raw = "formula and residual", "trees on raw features"
    median, p90 = error("wa-hls4ml-search", "shape", ours)
    assert median <= 4 and p90 <= 18
    beyond = zip(*(error("wa-hls4ml-search", "size", way) for way in (ours, raw)), strict=True)
    assert all(one < other for one, other in beyond)
    assert error("N-TORC", "configuration", ours)[0] <= 8


def test_a_share_among_groups_is_as_sure_as_there_are_groups() -> None:
    """Of groups of one it is the plain interval but for a degree of freedom; of groups that are all
    alike that of the groups; of mixed ones in between, and it holds as often as it says."""
    rng = np.random.default_rng(0)
    held = np.arange(400) % 10 > 0
    plain, ones = exact_share(360, 400), grouped_share(held, np.arange(400))
    assert (ones.low, ones.high) == pytest.approx((plain.low, plain.high), abs=2e-3)
    alike = grouped_share(np.repeat(held[:40], 10), np.repeat(np.arange(40), 10))
    few = exact_share(36, 40)
    assert (alike.low, alike.high) == pytest.approx((few.low, few.high), abs=0.01)
    every = grouped_share(np.ones(400, dtype=bool), np.repeat(np.arange(40), 10))
    assert (every.low, every.high) == (pytest.approx(exact_share(40, 40).low), 1.0)
    hits, naive, group = 0, 0, np.repeat(np.arange(60), 15)
    for _ in range(300):
        own = np.repeat(rng.beta(0.9 * 2, 0.1 * 2, 60), 15)
        drawn_held = rng.random(900) < own
        found = grouped_share(drawn_held, group)
        hits += found.low <= 0.9 <= found.high
        within = grouped_share(drawn_held, np.arange(900))
        naive += within.low <= 0.9 <= within.high
    assert hits >= 0.92 * 300 and naive < 0.8 * 300
    with pytest.raises(ValueError, match="need a group each"):
        grouped_share(held, np.arange(3))
