"""Op by target: refused or exact, as the committed matrix says, and never anything else."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from flow.ops import OPS
from tests.conformance.cases import MATRIX, Case, cases, run, variants

ROOT = Path(__file__).resolve().parents[2]
EVERY = {(case.op, case.label): case for case in cases()}
COLUMNS = dict(variants())
SAMPLE = 8  # every so many cases are simulated here, each in one variant; `make conformance`: all


def matrix() -> dict[tuple[str, str], dict[str, str]]:
    """The committed matrix: (op, case) to target variant to exact or refused."""
    with (ROOT / MATRIX).open() as handle:
        return {(row.pop("op"), row.pop("case")): row for row in csv.DictReader(handle)}


def test_every_op_has_a_case() -> None:
    assert {op for op, _ in EVERY} == set(OPS)


def test_the_matrix_is_whole_and_nothing_in_it_is_wrong() -> None:
    found = matrix()
    assert found.keys() == EVERY.keys()
    assert {word for row in found.values() for word in row.values()} == {"exact", "refused"}


@pytest.mark.parametrize("label", COLUMNS)
def test_refusals_are_the_matrix_s(label: str) -> None:
    refused = {key for key, case in EVERY.items() if COLUMNS[label].check(case.graph)}
    assert refused == {key for key, row in matrix().items() if row[label] == "refused"}


@pytest.mark.parametrize("number", range(0, len(EVERY), SAMPLE))
def test_a_sample_is_exact(tmp_path: Path, number: int) -> None:
    case: Case = list(EVERY.values())[number]
    label = list(COLUMNS)[number // SAMPLE % len(COLUMNS)]
    if "distributed_arithmetic" in label:
        pytest.skip(f"{label}: da4ml compiles itself for minutes at its first use")
    if COLUMNS[label].check(case.graph):
        pytest.skip(f"{label} refuses {case.op}, {case.label}")
    assert run(case, COLUMNS[label], tmp_path)
