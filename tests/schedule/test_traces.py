"""Traces: what generators promise, replay from files, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.errors import ToolMissing, UsageError
from flow.packages import version
from flow.schedule.generators import (
    GENERATORS,
    Bursty,
    ClosedLoop,
    Demand,
    Diurnal,
    Generator,
    Interactive,
    Periodic,
    Poisson,
    generate,
)
from flow.schedule.trace import Trace
from flow.schedule.trace_file import read_trace

MIX = (Demand("a", 50_000, 0.75), Demand("b", 90_000, 0.25, 80.0, 3))


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_is_a_trace(name: str) -> None:
    first, again, other = (generate(GENERATORS[name](), MIX, 500, seed) for seed in (1, 1, 2))
    assert first.sha256 == again.sha256 != other.sha256
    assert first.seed == 1 and name.replace("_", "") in first.generator.lower()
    part = first.part(100, 200)
    assert len(part) == 100 and part.arrival_us[0] == first.arrival_us[100]


def test_the_mix_is_as_asked() -> None:
    trace = generate(Poisson(), MIX, 20_000, 1)
    share = np.mean(trace.model == 0)
    assert share == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 20_000))
    own = trace.model == 1
    assert set((trace.deadline_us - trace.arrival_us)[own]) == {90_000}
    assert set(trace.min_accuracy[own]) == {80.0} and set(trace.priority[own]) == {3}


@pytest.mark.parametrize(
    ("generator", "mean_ms", "low", "high"),
    [
        (Poisson(120), 120, 0.97, 1.03),
        (Bursty(120), 120, 1.2, 1.8),  # more than exponential
        (Periodic(33.3, 2), 33.3, 0, 0.05),
        (Diurnal(20, 0.8, 100), 20, 1.05, 1.6),
        (ClosedLoop(20), 20, 0.97, 1.03),
    ],
)
def test_gaps_have_their_mean_and_spread(
    generator: Generator, mean_ms: float, low: float, high: float
) -> None:
    """Coefficients of variation: 1 of exponential gaps."""
    gaps = np.diff(generate(generator, MIX, 30_000, 3).arrival_us)
    assert gaps.mean() == pytest.approx(1000 * mean_ms, rel=0.05)
    assert low <= gaps.std() / gaps.mean() <= high


def test_sessions_are_of_frames() -> None:
    trace = generate(Interactive(33.3, 20, 60, 2000), MIX, 20_000, 4)
    inside = np.diff(trace.session) == 0
    gaps = np.diff(trace.arrival_us)
    np.testing.assert_allclose(gaps[inside], 33_300, atol=1)
    assert (gaps[~inside] >= 33_299).all()
    lengths = np.bincount(trace.session)[:-1]
    assert lengths.min() == 20 and lengths.max() == 60


def test_a_day_has_its_rush() -> None:
    """More arrivals in the first half of a sine than in the second, by (pi + 2s) : (pi - 2s)."""
    generator = Diurnal(20, 0.8, 100)
    arrival = generate(generator, MIX, 50_000, 5).arrival_us / 1e6
    whole = arrival[arrival < 100 * (arrival[-1] // 100)]
    ratio = np.mean(whole % 100 < 50) / np.mean(whole % 100 >= 50)
    assert ratio == pytest.approx((np.pi + 1.6) / (np.pi - 1.6), rel=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Poisson(-1), "gap_ms must be a number from 0"),
        (lambda: Poisson(float("nan")), "gap_ms must be a number from 0"),
        (lambda: Bursty(busy=1), "must have busy > 1"),
        (lambda: Interactive(least=9, most=3), "must have 1 <= least <= most"),
        (lambda: Diurnal(swing=1), "must have swing below 1"),
        (lambda: Demand("a", -1), "deadline_us must not be negative"),
        (lambda: Demand("a", 1, 0), "share must be above 0"),
        (lambda: generate(Poisson(), [], 5, 1), "there must be a demand"),
        (lambda: generate(Poisson(), MIX, 0, 1), "must be 1 to"),
    ],
)
def test_odd_generators_are_refused(make: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]


HEAD = "arrival_us,model,deadline_us,min_accuracy,session,priority\n"


def test_replay_from_csv(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(HEAD + "0,cat,100,90.5,1,2\n50,dog,80,0,1,-1\n50,cat,200,0,2,0\n")
    trace = read_trace(path)
    assert trace.models == ("cat", "dog") and trace.model.tolist() == [0, 1, 0]
    assert trace.arrival_us.tolist() == [0, 50, 50] and trace.deadline_us.tolist() == [100, 80, 200]
    assert trace.min_accuracy.tolist() == [90.5, 0, 0] and trace.priority.tolist() == [2, -1, 0]
    assert trace.generator == str(path) and trace.seed is None and not trace.closed
    path.write_text("model,deadline_us,arrival_us\ncat,9,3\n")
    assert read_trace(path).session.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column arrival_us, model, deadline_us must be given"),
        (HEAD, "must have 1 to"),
        (HEAD + "-1,a,5,0,0,0\n", "row 1: arrival_us must not be negative"),
        (HEAD + "9,a,10,0,0,0\n8,a,10,0,0,0\n", "row 2: arrival_us must not be before its pred"),
        (HEAD + "9,a,8,0,0,0\n", "row 1: deadline_us must not be before arrival_us"),
        (HEAD + "9,a,10,nan,0,0\n", "row 1: min_accuracy must be a number, not 'nan'"),
        (HEAD + "x,a,10,0,0,0\n", "row 1: arrival_us must be a whole number, not 'x'"),
        (HEAD + "1.5,a,10,0,0,0\n", "row 1: arrival_us must be a whole number"),
        (HEAD + "1,a,10,0,0,300\n", "row 1: priority must be from -128"),
        (HEAD + "1,a," + "9" * 30 + ",0,0,0\n", "row 1: deadline_us must be from"),
        (HEAD + "1,,10,0,0,0\n", "models must be at most"),
        (HEAD + "1,a\n", "row 1 must have 6 values, not 2"),
        ("arrival_us,model,deadline_us,colour\n1,a,2,red\n", "unknown column colour"),
        ("arrival_us,model,deadline_us,model\n1,a,2,a\n", "a column stands twice"),
        (HEAD + '1,"a,10,0,0,0\n', "cannot read trace"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        read_trace(path)
    assert "trace.csv" in str(error.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no trace .*nothing.csv"):
        read_trace(tmp_path / "nothing.csv")
    with pytest.raises(UsageError, match=r"must be a .csv or .parquet file"):
        read_trace(tmp_path / "trace.json")
    (tmp_path / "odd.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot read trace"):
        read_trace(tmp_path / "odd.csv")


def test_parquet_needs_pyarrow(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    path.write_bytes(b"PAR1")
    error = ToolMissing if version("pyarrow") is None else UsageError
    with pytest.raises(error, match=r"trace\.parquet"):
        read_trace(path)


def test_without_pyarrow_its_extra_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trace.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr("flow.schedule.trace_file.version", lambda name: None)
    with pytest.raises(ToolMissing, match=r"pip install 'bitwright\[parquet\]'; or write .* .csv"):
        read_trace(tmp_path / "trace.parquet")


COLUMNS: dict[str, list[Any]] = {
    "arrival_us": [0, 50, 50],
    "model": ["cat", "dog", "cat"],
    "deadline_us": [100, 80, 200],
    "min_accuracy": [90.5, 0.0, 0.0],
}


def parquet_file(path: Path, columns: dict[str, list[Any]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    return path


def test_replay_from_parquet_is_that_from_csv(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "trace.parquet", COLUMNS)
    (tmp_path / "trace.csv").write_text(
        "arrival_us,model,deadline_us,min_accuracy\n0,cat,100,90.5\n50,dog,80,0\n50,cat,200,0\n"
    )
    ours, other = read_trace(path), read_trace(tmp_path / "trace.csv")
    assert ours.models == other.models and ours.sha256 == other.sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrival_us": [0, -1, 2]}, "row 2: arrival_us must not be"),
        ({"arrival_us": ["0", "1", "2"]}, "arrival_us must be whole numbers, not string"),
        ({"arrival_us": [0.0, 1.0, 2.0]}, "arrival_us must be whole numbers, not double"),
        ({"arrival_us": [0, None, 2]}, "row 2: arrival_us must be a whole number, not None"),
        ({"model": [1, 2, 3]}, "model must be text, not"),
        ({"model": ["cat", None, "cat"]}, "row 2: model must be given"),
        ({"model": ["x" * 10**6] * 3}, "names of 1 to 200 letters"),
        ({"min_accuracy": ["a", "b", "c"]}, "min_accuracy must be numbers, not string"),
        ({"colour": [1, 2, 3]}, "unknown column colour"),
    ],
)
def test_damaged_parquet_files_are_refused(
    tmp_path: Path, change: dict[str, list[Any]], message: str
) -> None:
    path = parquet_file(tmp_path / "trace.parquet", {**COLUMNS, **change})
    with pytest.raises(UsageError, match=message) as error:
        read_trace(path)
    assert "trace.parquet" in str(error.value)


def test_a_parquet_file_is_read_batch_by_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count of rows in its footer is not believed."""
    path = parquet_file(tmp_path / "trace.parquet", COLUMNS)
    monkeypatch.setattr("flow.schedule.trace_file.BATCH", 1)
    assert len(read_trace(path)) == 3
    monkeypatch.setattr("flow.schedule.trace_file.MAX_REQUESTS", 2)
    with pytest.raises(UsageError, match="must have at most 2 rows"):
        read_trace(path)


def test_arrays_that_do_not_fit_are_refused() -> None:
    trace = generate(Poisson(), MIX, 5, 1)
    short = dict(trace.__dict__)
    for name, value, message in (
        ("deadline_us", trace.deadline_us[:3], "deadline_us must be 5 of int64"),
        ("model", trace.model + np.int32(7), "row 1: model must be one of a, b"),
        ("min_accuracy", np.full(5, np.nan), "row 1: min_accuracy must be a number"),
        ("arrival_us", trace.arrival_us.astype(float), "arrival_us must be 5 of int64"),
    ):
        with pytest.raises(UsageError, match=message):
            Trace(**{**short, name: value})
