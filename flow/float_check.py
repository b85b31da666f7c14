"""The command that compares a network with a float32 runtime; it needs no target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flow import packages
from flow.errors import UsageError
from flow.float_tools import FloatTool, Runtime
from flow.importer import Imported
from flow.interp import Interpreter
from flow.near_ties import FloatAgreement, compare
from flow.onnx_file import OnnxFile
from flow.ops import IntArray
from flow.options import unknown_name
from flow.plan import Events, Request, Source, is_path
from flow.user_data import read_labelled
from flow.vectors import make_vectors

SAMPLES = 1000  # of a model's own test split; of the user's data all
CHUNK = 64  # vectors whose tensors are kept at a time


@dataclass(frozen=True)
class Compared:
    """What a comparison found: no difference but near-ties."""

    model: str
    tool: str
    version: str
    agreement: FloatAgreement

    def __str__(self) -> str:
        same = self.agreement
        if same.near_ties:
            text = f"{same.near_ties:,} of {same.codes:,} values differ first, all near-ties"
        else:
            text = f"none of {same.codes:,} values differs"
        aside = f"; {same.aside} vectors followed no further" if same.aside else ""
        return (
            f"{self.model} in float32\n"
            f"{self.tool} {self.version}: {text} ({same.vectors} vectors{aside})"
        )

    def to_json(self) -> dict[str, Any]:
        found = asdict(self.agreement)
        named = {"model": self.model, "tool": self.tool, "version": self.version}
        return {"schema": 1, "command": "float-check", **named, "matches_reference": True, **found}


def float_check(request: Request, tool: str, events: Events) -> Compared:
    """Every quantizer's codes against a float32 runtime, on test samples, corners and random codes.

    Args:
        tool: a Runtime's name; empty for the one that knows the file's operations.

    Raises:
        FlowError: one of its kinds; Mismatch where rounding does not explain a difference.
    """
    names = [runtime.value for runtime in Runtime]
    if tool and tool not in names:
        raise unknown_name("tool", tool, names)
    if tool:
        Runtime(tool).require()
    # Of a file the data are samples to run; of a model that is trained here, its data set.
    given = request.data if is_path(request.model) else None
    source = Source(request if given is None else replace(request, data=None), events)
    file, imported = source.file, source.imported
    runtime = Runtime(tool) if tool else Runtime.of(file)
    vectors = make_vectors(imported.graph.input, _samples(source, given))
    events.note(f"running {len(vectors)} vectors in {runtime.value}")
    found = compare_all(file, imported, vectors, FloatTool(runtime, file, imported).trace)
    return Compared(source.name, runtime.value, packages.version(runtime.value) or "?", found)


def compare_all(
    file: OnnxFile,
    imported: Imported,
    vectors: IntArray,
    trace: Callable[[IntArray], dict[str, Any]],
) -> FloatAgreement:
    """`near_ties.compare` in parts that fit the memory."""
    interpreter, found = Interpreter(imported.graph), FloatAgreement(0, 0, 0)
    count = min(CHUNK, interpreter.batch)
    for first in range(0, len(vectors), count):
        codes = vectors[first : first + count]
        found += compare(file, imported, interpreter, codes, trace(codes), first)
    return found


def _samples(source: Source, given: Path | None) -> IntArray | None:
    """Codes of the model's test samples, or of the user's."""
    if given is not None:
        x: Any = read_labelled(given, source.ends[0]).x
    elif source.reference is not None:
        x = source.reference.x[:SAMPLES]
    else:
        return None
    try:
        with np.errstate(over="ignore"):
            return source.host.quantize(x)
    except ValueError as error:
        raise UsageError(f"DATA={given}: holds a number too large for float32") from error
