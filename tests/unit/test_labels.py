"""Kernels are drawn evenly, labelled in parallel, and kept whatever is killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flow import labels, packages
from flow.errors import FlowError, ToolMissing, UsageError
from flow.interp import Interpreter
from flow.labels import BATCH, Labeller, Rows, batched, make_labels, read_labels
from flow.outline import Role, outline
from flow.surrogate.kernels import (
    BLOCK,
    NETWORK_WORK,
    PLAIN_WORK,
    TURN,
    WEIGHTED,
    WORK,
    Kernel,
    Kind,
    _work_of,
    drawn,
)
from tests.unit.labelling import quick, refusing, slow

ROOT = Path(__file__).resolve().parents[2]


class Here:
    """Work in this process, in the place of a cluster; `stop_at` many results it is interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: int = 10_000):
        self.done: list[int] = []

        def results(
            client: object, batches: list[list[Kernel]], labeller: Labeller
        ) -> Iterator[object]:
            for batch in batches:
                found = labels._labelled(labeller, batch)
                for kernel, rows in zip(batch, found, strict=True):
                    if len(self.done) == stop_at:
                        raise KeyboardInterrupt
                    self.done.append(kernel.number)
                    yield kernel, rows

        monkeypatch.setattr(labels, "_results", results)
        monkeypatch.setattr(labels, "_client", lambda *_: open(os.devnull))


def note(text: str) -> None:
    """Nobody listens."""


# What is drawn ---------------------------------------------------------------------------------


DRAWN = drawn(2 * BLOCK)


def test_kernels_are_all_kinds_and_no_larger_than_is_asked() -> None:
    first = DRAWN[: 2 * len(TURN)]
    assert Counter(kernel.kind for kernel in first) == {
        **dict.fromkeys(Kind, 2),
        **{Kind.DENSE: 6, Kind.CONV: 4, Kind.ADD: 1, Kind.MUL: 1},
    }
    assert DRAWN[: BLOCK + 7] == drawn(BLOCK + 7) != drawn(BLOCK + 7, seed=1)
    assert [Kernel.read(kernel.row()) for kernel in DRAWN] == DRAWN
    for kind in Kind:
        ends = WORK if kind in WEIGHTED else PLAIN_WORK
        sizes = [kernel.work() for kernel in DRAWN if kernel.kind is kind]
        assert max(sizes) <= (NETWORK_WORK if kind is Kind.NETWORK else ends)[1]


def test_small_kernels_are_many_and_large_ones_some() -> None:
    """Of sizes that are drawn as often as size**-1.5 a half is below four times the least."""
    sizes = [k.work() for k in DRAWN if k.kind in (Kind.DENSE, Kind.CONV, Kind.DEPTHWISE)]
    assert np.median(sizes) < 4 * WORK[0] and max(sizes) > WORK[1] / 2
    assert sum(size > WORK[1] / 4 for size in sizes) >= 5


def test_the_size_of_a_kernel_is_that_of_its_graph() -> None:
    """Weights may need a bit less than they have, and inputs of one bit count as two."""
    for kernel in DRAWN[: 2 * len(TURN)]:
        found = sum(_work_of(step) for step in outline(kernel.graph()).steps)
        assert found == pytest.approx(kernel.work(), rel=0.51)


def test_what_is_drawn_is_spread_evenly() -> None:
    """A Latin hypercube: of a block's shares of a range of eight values each is an eighth."""
    counts = Counter(kernel.cutoff for kernel in DRAWN)
    assert counts == dict.fromkeys(range(1, 9), 2 * BLOCK // 8)


@pytest.mark.parametrize(
    "kernel", DRAWN[: 3 * len(TURN)], ids=lambda kernel: f"{kernel.kind.value}{kernel.number}"
)
def test_a_kernel_is_a_graph(kernel: Kernel) -> None:
    graph = kernel.graph()
    assert graph.to_json() == kernel.graph().to_json()
    steps = [s for s in outline(graph).steps if s.role not in (Role.MOVE, Role.VIEW)]
    weighted = [s for s in steps if s.role.value in ("dense", "conv", "depthwise")]
    if kernel.kind is Kind.NETWORK:
        assert 2 <= len(weighted) <= kernel.layers and steps[-1].role is Role.DENSE
        assert steps[-1].channels == kernel.outputs
    else:
        (step,) = steps
        assert step.role.value == kernel.kind.value
        assert step.given_bits <= max(kernel.given_bits, 2)
        assert kernel.outputs in (0, step.channels)
    for step in weighted:
        assert step.weight_bits is not None and step.weight_bits <= kernel.weight_bits
        assert step.known is not None and step.known.rows == step.channels
    codes = np.zeros((1, *graph.input.shape), dtype=np.int64)
    assert Interpreter(graph).run(codes).shape == (1, *graph.output.shape)


def test_no_kernel_of_nothing() -> None:
    with pytest.raises(UsageError, match="needs inputs"):
        replace(drawn(1)[0], inputs=0)
    with pytest.raises(UsageError, match="outputs must be from 0"):
        replace(drawn(1)[0], outputs=-1)
    with pytest.raises(UsageError, match="bits must be at most 24"):
        replace(drawn(1)[0], given_bits=25)


# The table -------------------------------------------------------------------------------------


def test_what_was_made_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after three, gone on with, and nothing made twice."""
    path, kernels = tmp_path / "labels.csv", drawn(8)
    first = Here(monkeypatch, stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        make_labels(path, kernels, "", 1, note, quick)
    assert first.done == [0, 1, 2]
    second = Here(monkeypatch)
    made = make_labels(path, kernels, "", 1, note, quick)
    assert second.done == [3, 4, 5, 6, 7]
    assert (made.kept, made.added, made.failed) == (3, 4, {5: "five is out"})
    assert "kernel 5 has no label: five is out" in str(made)
    rows = read_labels(path)
    assert [int(row["number"]) for row in rows] == [n for n in range(8) if n != 5 for _ in "ab"]
    again = Here(monkeypatch)
    with pytest.raises(FlowError, match="no kernel could be labelled; kernel 5: five is out"):
        make_labels(path, kernels, "", 1, note, quick)
    assert again.done == [5]


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_line_that_was_cut_is_made_again(
    cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kernels = tmp_path / "labels.csv", drawn(4)
    Here(monkeypatch)
    make_labels(path, kernels, "", 1, note, quick)
    whole = path.read_text()
    path.write_text(whole[:-cut])
    again = Here(monkeypatch)
    make_labels(path, kernels, "", 1, note, quick)
    assert again.done == [3]
    assert path.read_text() == whole


def test_kernels_are_labelled_together() -> None:
    """In batches that do not depend on which of them are labelled already."""
    kernels = drawn(3 * BATCH)
    sizes = [len(batch) for batch in batched(kernels)]
    assert sizes == [BATCH] * 3
    left = [kernel for kernel in kernels if kernel.number % 5]
    assert [k for batch in batched(left) for k in batch] == left
    assert all(len({k.number // BATCH for k in batch}) == 1 for batch in batched(left))


def test_a_labeller_that_cannot_labels_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Here(monkeypatch)
    with pytest.raises(FlowError, match="no kernel could be labelled; kernel 0: no tool"):
        make_labels(tmp_path / "labels.csv", drawn(3), "", 1, note, refusing)
    assert not (tmp_path / "labels.csv").exists()


def test_order_of_arrival_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Here(monkeypatch)
    paths = tmp_path / "a.csv", tmp_path / "b.csv"
    for path, order in zip(paths, (1, -1), strict=True):
        make_labels(path, drawn(4)[::order], "", 1, note, quick)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_nobody_else_writes_while_rows_are_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Here(monkeypatch)
    locks: list[bool] = []

    def replace_bytes(path: Path, content: bytes) -> None:
        locks.append((tmp_path / ".labels.csv.lock").exists())
        path.write_bytes(content)

    monkeypatch.setattr(labels, "replace_bytes", replace_bytes)
    make_labels(tmp_path / "labels.csv", drawn(4)[::-1], "", 1, note, quick)
    assert locks == [True] and not (tmp_path / ".labels.csv.lock").exists()
    assert [row["number"] for row in read_labels(tmp_path / "labels.csv")][::2] == list("0123")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "first line must name the columns"),
        ("a,b\n1,2\n", "first line must name the columns"),
        ("number,kind,family,lut\n1,dense\n", "line 2 is no label: 2 cells, not 4"),
        ("number,kind,family,lut\n1,dense,ice40,3\n", "line 2 is no label"),
        ("\xff", "first line"),
    ],
)
def test_damaged_tables_are_refused_and_kept(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        make_labels(path, drawn(2), "", 1, note, quick)
    assert path.read_text() == text


def test_a_table_of_other_kernels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Here(monkeypatch)
    make_labels(tmp_path / "labels.csv", drawn(3), "", 1, note, quick)
    with pytest.raises(UsageError, match="kernel 0 is another one than that drawn now"):
        make_labels(tmp_path / "labels.csv", drawn(3, seed=1), "", 1, note, quick)


def test_without_dask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "version", lambda name: None)
    with pytest.raises(ToolMissing, match=r"bitwright\[labels\]"):
        make_labels(tmp_path / "labels.csv", drawn(2), "", 1, note, quick)


# Several processes -----------------------------------------------------------------------------


def started(folder: Path, *argv: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "LABELLING": str(folder)}
    command = [sys.executable, "-W", "ignore", "-m", "distributed.cli.dask_" + argv[0], *argv[1:]]
    log = (folder / f"{argv[0]}.log").open("ab")
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


@pytest.mark.filterwarnings("ignore")  # of Dask's own clean-up
def test_nothing_is_lost_when_a_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler and two processes that work, of which one is killed with a kernel in hand."""
    pytest.importorskip("distributed")
    where = tmp_path / "scheduler.json"
    options = ("--scheduler-file", str(where), "--no-dashboard")
    working = ("--scheduler-file", str(where), "--nthreads", "1", "--no-nanny", "--no-dashboard")
    own = ("--local-directory", str(tmp_path))
    running = [started(tmp_path, "scheduler", *options, "--port", "0")]
    try:
        running += [started(tmp_path, "worker", *working, *own) for _ in range(2)]
        deadline = time.monotonic() + 120
        while not where.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        address = json.loads(where.read_text())["address"]
        victim = running[1]
        killed: list[int] = []
        append = labels._append

        def and_kill(path: Path, rows: Rows) -> None:
            append(path, rows)
            if not killed and list(tmp_path.glob(f"*-{victim.pid}")):
                victim.send_signal(signal.SIGKILL)
                victim.wait()
                killed.append(victim.pid)

        monkeypatch.setattr(labels, "_append", and_kill)
        monkeypatch.setattr(labels, "BATCH", 1)
        kernels = [kernel for kernel in drawn(20) if kernel.number != 5]
        made = make_labels(tmp_path / "labels.csv", kernels, address, 0, note, slow)
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert killed and made.added == len(kernels) and not made.failed
    with (tmp_path / "labels.csv").open() as file:
        counts = Counter(int(row["number"]) for row in csv.DictReader(file))
    assert counts == {kernel.number: 2 for kernel in kernels}
    hands = Counter(int(path.name.split("-")[0]) for path in tmp_path.glob("[0-9]*-*"))
    assert max(hands.values()) == 2  # what the killed one had in hand went to the other


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels made already are kept."""
    pytest.importorskip("distributed")
    monkeypatch.setattr(labels, "CONNECT_SECONDS", 1)
    path = tmp_path / "labels.csv"
    with monkeypatch.context() as patched:
        Here(patched)
        make_labels(path, drawn(4)[:2], "", 1, note, quick)
    before = path.read_bytes()
    with pytest.raises(FlowError, match=r"tcp://127.0.0.1:1 cannot be reached"):
        make_labels(path, drawn(4), "tcp://127.0.0.1:1", 1, note, quick)
    assert path.read_bytes() == before
