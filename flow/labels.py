"""Making labels: kernels through synthesis, in parallel, stored as they come, resumed after a stop.

The table has a row for each kernel and family. A kernel's rows are written together when all are
there; what a stop cut off is made again. Kernels are labelled some at a time, which costs a part of
what labelling each alone does. Work is spread by Dask: over processes of this machine, or over
those of a scheduler elsewhere, which needs this program and its tools there.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow import packages, tools
from flow.artifact import locked, replace_bytes
from flow.csv_table import CsvTable
from flow.errors import FlowError, UsageError
from flow.surrogate.kernels import Kernel

MAX_BYTES = 64 << 20
BATCH = 12  # kernels that are labelled together, at most
CONNECT_SECONDS = 10
_SAY_SECONDS = 15.0
_COLUMNS = ("number", "kind", "family", "lut")
Rows = list[dict[str, str]]
Labeller = Callable[[Sequence[Kernel]], list[Rows | str]]  # of each its rows, or why it has none


@dataclass(frozen=True)
class Made:
    """What a run added to the table, and what it could not label: the kernels' numbers, and why."""

    path: Path
    kept: int
    added: int
    failed: dict[int, str]
    seconds: float

    def __str__(self) -> str:
        each = f", {self.seconds / self.added:.1f} s each" if self.added else ""
        lines = [f"{self.path}: {self.kept} kernels kept, {self.added} added{each}"]
        lines += [f"kernel {number} has no label: {why}" for number, why in self.failed.items()]
        return "\n".join(lines)


def label_kernels(kernels: Sequence[Kernel]) -> list[Rows | str]:
    """By Yosys and nextpnr; run in the processes that work."""
    from targets.rtl.labels import labels

    return labels(kernels)


def make_labels(
    path: Path,
    kernels: Sequence[Kernel],
    scheduler: str,
    processes: int,
    note: Callable[[str], None],
    labeller: Labeller = label_kernels,
) -> Made:
    """Label the kernels that the table does not hold; `processes` of this machine, 0 for all.

    Raises:
        UsageError: the table is damaged, or holds another kernel of the same number.
        ToolMissing: Dask, or a tool, is not there.
        FlowError: the scheduler cannot be reached, or no kernel could be labelled.
    """
    if labeller is label_kernels and not scheduler:
        from targets.rtl.implement.implement import implement_tools
        from targets.rtl.implement.parts import find_part
        from targets.rtl.labels import PARTS

        for name in PARTS.values():
            for tool in implement_tools(find_part(name), False):
                tools.require(tool)
    begun = time.monotonic()
    with locked(path):
        rows = read_labels(path, repair=True)
        held = {kernel.number: kernel for kernel in (Kernel.read(row) for row in rows)}
        for kernel in kernels:
            if held.get(kernel.number, kernel) != kernel:
                raise UsageError(
                    f"{path}: its kernel {kernel.number} is another one than that drawn now; give "
                    f"another file, or the COUNT and SEED that it was made with"
                )
        waiting = [kernel for kernel in kernels if kernel.number not in held]
        failed: dict[int, str] = {}
        added = 0
        said = begun
        if waiting:
            batches = batched(waiting)
            with _client(scheduler, min(processes or tools.processors(), len(batches))) as client:
                for kernel, found in _results(client, batches, labeller):
                    if isinstance(found, str):
                        failed[kernel.number] = found
                    else:
                        _append(path, found)
                        added += 1
                    if (now := time.monotonic()) - said >= _SAY_SECONDS:
                        said = now
                        over = added + len(failed)
                        left = (now - begun) / over * (len(waiting) - over)
                        note(f"{over} of {len(waiting)} kernels, {left / 60:.0f} min left")
        _sort(path)
    if waiting and not added:
        number, why = next(iter(failed.items()))
        raise FlowError(f"no kernel could be labelled; kernel {number}: {why}")
    return Made(path, len(held), added, failed, time.monotonic() - begun)


def batched(kernels: Sequence[Kernel]) -> list[list[Kernel]]:
    """Those whose numbers, divided by BATCH, are of one quotient."""
    by: dict[int, list[Kernel]] = {}
    for kernel in kernels:
        by.setdefault(kernel.number // BATCH, []).append(kernel)
    return list(by.values())


def read_labels(path: Path, repair: bool = False) -> Rows:
    """The rows of a table; none where there is no file. With `repair` a line that was cut off at
    the end, and the rows of its kernel, are taken out of the file.

    Raises:
        UsageError: the table is damaged.
    """
    if not path.exists():
        return []
    table = CsvTable(path, _COLUMNS, MAX_BYTES, "label", "remove it")
    head, _, body = table.text().partition("\n")
    whole = body[: body.rfind("\n") + 1]
    rows = table.rows(f"{head}\n{whole}", _row)
    if rest := body[len(whole) :]:
        cut = rest.partition(",")[0]
        rows = [row for row in rows if row["number"] != cut]
        if repair:
            replace_bytes(path, text_of(head.split(","), rows).encode())
    return rows


def _row(cells: dict[str, str]) -> dict[str, str]:
    Kernel.read(cells)
    if int(cells["lut"]) < 0:
        raise ValueError("a negative count")
    return cells


def _sort(path: Path) -> None:
    """By kernel and family, so that equal labels make equal files."""
    rows = read_labels(path)
    order = {number: place for place, number in enumerate(sorted({int(r["number"]) for r in rows}))}
    rows.sort(key=lambda row: order[int(row["number"])])  # families stay as they are
    if rows:
        replace_bytes(path, text_of(list(rows[0]), rows).encode())


def _append(path: Path, rows: Rows) -> None:
    """All rows of a kernel at once."""
    new = not path.exists()
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    if new:
        writer.writeheader()
    writer.writerows(rows)
    with path.open("a", encoding="utf-8") as file:
        file.write(text.getvalue())
        file.flush()
        os.fsync(file.fileno())


def text_of(columns: list[str], rows: Rows) -> str:
    """Rows as a table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@contextmanager
def _client(scheduler: str, processes: int) -> Iterator[Any]:
    """A client of the scheduler, or of processes here that end with it."""
    packages.require("distributed")
    from distributed import Client, LocalCluster

    if not scheduler:
        with (
            LocalCluster(
                n_workers=processes, threads_per_worker=1, dashboard_address=None, silence_logs=50
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise FlowError(
            f"SCHEDULER={scheduler} cannot be reached: {error}; start one with `dask scheduler`, "
            f"and give its address, such as tcp://host:8786"
        ) from error
    with client:
        yield client


def _results(
    client: Any, batches: Sequence[Sequence[Kernel]], labeller: Labeller
) -> Iterator[tuple[Kernel, Rows | str]]:
    """Each kernel with its rows, or why there are none, as they come. What a process that ends had
    in hand is given to another."""
    from distributed import as_completed

    jobs = {
        client.submit(_labelled, labeller, batch, pure=False, retries=2): batch for batch in batches
    }
    for future in as_completed(jobs):
        batch = jobs[future]
        try:
            # Where the process that held a result ended before it was fetched, it is made again.
            found = future.result()
        except Exception as error:  # whatever a labeller, or the loss of all processes, raises
            found = [f"{type(error).__name__}: {error}"] * len(batch)
        yield from zip(batch, found, strict=True)
        future.release()


def _labelled(labeller: Labeller, batch: Sequence[Kernel]) -> list[Rows | str]:
    """In a process that works: kernels that cannot be labelled stop no others."""
    try:
        return labeller(batch)
    except (FlowError, ValueError) as error:
        return [str(error).splitlines()[0]] * len(batch)
