"""Op by target: refused or exact, as the committed matrix says, and never anything else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from flow.graph import Graph
from flow.ops import OPS, Conv
from flow.vectors import make_vectors
from targets.hls4ml import csim
from targets.hls4ml.backends import Backend
from targets.hls4ml.layers import Layer
from tests.conformance.cases import MATRIX, Case, cases, matrix, run, variants
from tests.conformance.programs import kept_in
from tests.targets.test_backends import build as project

ROOT = Path(__file__).resolve().parents[2]
EVERY = {(case.op, case.label): case for case in cases()}
COLUMNS = dict(variants())
SAMPLE = 8  # every so many cases are simulated here, each in one variant; `make conformance`: all


def test_every_op_has_a_case() -> None:
    assert {op for op, _ in EVERY} == set(OPS)


def test_the_matrix_is_whole_and_nothing_in_it_is_wrong() -> None:
    found = matrix(ROOT / MATRIX)
    assert found.keys() == EVERY.keys()
    assert {word for row in found.values() for word in row.values()} == {"exact", "refused"}


@pytest.mark.parametrize("label", COLUMNS)
def test_refusals_are_the_matrix_s(label: str) -> None:
    refused = {key for key, case in EVERY.items() if COLUMNS[label].check(case.graph)}
    assert refused == {key for key, row in matrix(ROOT / MATRIX).items() if row[label] == "refused"}


def test_a_program_is_built_once_for_the_same_sources(tmp_path: Path) -> None:
    """Other vectors use it again, another weight does not."""
    case = EVERY["relu", "at 0, uint4"]
    built = []

    def build(folder: Path, layers: list[Layer], backend: Backend, io_type: str) -> None:
        built.append(folder)
        (folder / "csim").mkdir()
        (folder / "csim" / csim.PROGRAM).write_bytes(f"program {len(built)}".encode())

    def emit(name: str, graph: Graph, vectors: int) -> bytes:
        folder = tmp_path / name
        folder.mkdir()
        project(graph, folder, make_vectors(graph.input, None)[:vectors])
        return (folder / "csim" / csim.PROGRAM).read_bytes()

    with mock.patch.object(csim, "build", build), kept_in(tmp_path / "cache"):
        assert emit("one", case.graph, 3) == emit("two", case.graph, 5) == b"program 1"
        last = case.graph.nodes[-1]
        assert isinstance(last.op, Conv)
        other = replace(last, op=replace(last.op, weight=last.op.weight + 1))
        graph = Graph.build("case", case.graph.input, (*case.graph.nodes[:-1], other))
        assert emit("three", graph, 3) == b"program 2"
    assert sorted(len(path.name) for path in (tmp_path / "cache").iterdir()) == [64, 64]


@pytest.mark.parametrize("number", range(0, len(EVERY), SAMPLE))
def test_a_sample_is_exact(tmp_path: Path, number: int) -> None:
    case: Case = list(EVERY.values())[number]
    label = list(COLUMNS)[number // SAMPLE % len(COLUMNS)]
    if "distributed_arithmetic" in label:
        pytest.skip(f"{label}: da4ml compiles itself for minutes at its first use")
    if COLUMNS[label].check(case.graph):
        pytest.skip(f"{label} refuses {case.op}, {case.label}")
    assert run(case, COLUMNS[label], tmp_path)
