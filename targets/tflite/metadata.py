"""What a .tflite file says about itself: TFLite's own model metadata with the input's normalization
and a file of labels, and a JSON buffer of ours.

Source of the tables and their fields' places: metadata_schema.fbs of TensorFlow Lite Support 0.4.4.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from flow.host import make_host
from flow.importer import HostInput
from flow.importer.meaning import HostKind
from flow.target import Program
from targets.tflite.state import Lowered, Stored

STANDARD = "TFLITE_METADATA"
OURS = "bitwright"
MINIMUM_RUNTIME = "min_runtime_version"
LABELS = "labels.txt"
_IDENTIFIER = b"M001"
_AXIS_LABELS, _NORMALIZATION = 2, 1  # of AssociatedFileType and ProcessUnitOptions
_RUNTIME = "2.14.0"  # the older of the two that run what is written here
_NEWER = {("CONV_2D", 8), ("FULLY_CONNECTED", 11)}  # runtime_version.cc of LiteRT: since 2.15


def metadata(program: Program, lowered: Lowered) -> dict[str, bytes]:
    """The file's metadata buffers by name."""
    host = make_host(program.head, program.tail).constants
    first, last = (places(stored) for stored in lowered.ends)
    body = {
        "schema": 1,
        "model": program.graph.name,
        "source_sha256": program.source,
        "input": first,
        "output": last,
        "host": host,
    }
    used = {(operator.kind.name, operator.version) for operator in lowered.operators}
    runtime = "2.15.0" if used & _NEWER else _RUNTIME
    return {
        STANDARD: _standard(program, host),
        OURS: json.dumps(body, sort_keys=True).encode(),
        MINIMUM_RUNTIME: runtime.encode().ljust(16, b"\0"),
    }


def with_labels(content: bytes, classes: tuple[str, ...]) -> bytes:
    """The file with the names of the outputs, a line each, as a zip archive behind it: where the
    standard tools look for what the metadata call associated files."""
    if not classes:
        return content
    held = io.BytesIO(content)
    with zipfile.ZipFile(held, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS), "".join(f"{name}\n" for name in classes))
    return held.getvalue()


def normalization(head: HostInput) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(mean, std) of the host's steps, (x - mean) / std, one entry or one per channel; None where
    they are no such function."""
    factor, offset = np.ones((1, *head.shape)), np.zeros((1, *head.shape))
    for step in head.steps:
        if step.kind in (HostKind.RESHAPE, HostKind.TRANSPOSE):
            return None
        constant = np.array(step.values).reshape(step.shape)
        if step.kind in (HostKind.ADD, HostKind.SUB):
            offset = offset + constant if step.kind is HostKind.ADD else offset - constant
        elif step.kind is HostKind.MUL:
            factor, offset = factor * constant, offset * constant
        else:
            factor, offset = factor / constant, offset / constant
    if factor.shape != (1, *head.shape) or not np.all(factor):
        return None
    rows = head.shape[0], -1
    pair = (0 - offset / factor).reshape(rows), (1 / factor).reshape(rows)
    if any((part != part[:, :1]).any() for part in pair):
        return None
    mean, std = (part[:, 0] for part in pair)
    alike = (mean == mean[0]).all() and (std == std[0]).all()
    return (mean[:1], std[:1]) if alike else (mean, std)


def places(stored: Stored) -> dict[str, Any]:
    """Where a value's codes are in its tensor: number[order[j]] = code[j] + zero."""
    return {
        "shape": list(stored.layout.shape),
        "order": stored.layout.order.tolist(),
        "zero": stored.zero,
    }


def _standard(program: Program, host: dict[str, Any]) -> bytes:
    builder = flatbuffers.Builder(512)
    steps = [step["kind"] for step in host["input"]["steps"]]
    before = f"{', '.join(steps)} (see the buffer {OURS}), then " if steps else ""
    scales = ", ".join(f"{float(scale):g}" for scale in program.tail.scale[:4])
    taken = _tensor(
        builder,
        "input",
        f"Real input x of shape {host['input']['shape']}: {before}x / {host['input']['scale']!r} + "
        f"{host['input']['zero_point']}, rounded ({host['input']['rounding']}) and clamped to "
        f"{host['input']['low']}..{host['input']['high']}; channels last.",
        {4: _vector(builder, [_normalization(builder, program.head)])}
        if normalization(program.head) is not None
        else {},
    )
    functions = host["output"]["functions"]
    after = f" The host then applies: {', '.join(functions)}." if functions else ""
    given = _tensor(
        builder,
        "output",
        f"Integers; real output = scale * (number - zero) + offset, scale {scales}"
        f"{', ...' if len(program.tail.scale) > 4 else ''} (all in the buffer {OURS}).{after}",
        {6: _vector(builder, [_labels(builder)])} if program.classes else {},
    )
    graph = _table(builder, {2: _vector(builder, [taken]), 3: _vector(builder, [given])}, 8)
    fields = {
        0: builder.CreateString(program.graph.name),
        1: builder.CreateString(
            f"Integer network, made from the QONNX file with sha256 {program.source}"
        ),
        3: _vector(builder, [graph]),
        7: builder.CreateString("1.0.0"),
    }
    builder.Finish(_table(builder, fields, 8), _IDENTIFIER)
    return bytes(builder.Output())


def _tensor(builder: Any, name: str, description: str, more: dict[int, int]) -> int:
    """A TensorMetadata table."""
    texts = {0: builder.CreateString(name), 1: builder.CreateString(description)}
    return _table(builder, texts | more, 7)


def _normalization(builder: Any, head: HostInput) -> int:
    """A ProcessUnit of NormalizationOptions."""
    found = normalization(head)
    assert found is not None
    mean, std = (builder.CreateNumpyVector(part.astype(np.float32)) for part in found)
    options = _table(builder, {0: mean, 1: std}, 2)
    return _table(builder, {1: options}, 2, (0, _NORMALIZATION))


def _labels(builder: Any) -> int:
    """An AssociatedFile."""
    texts = {0: builder.CreateString(LABELS), 1: builder.CreateString("A name for each output.")}
    return _table(builder, texts, 5, (2, _AXIS_LABELS))


def _table(
    builder: Any, fields: dict[int, int], slots: int, byte: tuple[int, int] | None = None
) -> int:
    """A table of offsets by slot, and a number of one byte in its own."""
    builder.StartObject(slots)
    if byte is not None:
        builder.PrependUint8Slot(*byte, 0)
    for slot, offset in fields.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(builder.EndObject())


def _vector(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
