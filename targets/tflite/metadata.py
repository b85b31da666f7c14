"""What a .tflite file says about itself: TFLite's own model metadata, and a JSON buffer of ours.

Source of the tables and their fields' places: metadata_schema.fbs of TensorFlow Lite Support 0.4.4.
"""

from __future__ import annotations

import json
from typing import Any

import flatbuffers

from flow.host import make_host
from flow.target import Program
from targets.tflite.state import Lowered, Stored

STANDARD = "TFLITE_METADATA"
OURS = "bitwright"
MINIMUM_RUNTIME = "min_runtime_version"
_IDENTIFIER = b"M001"
_RUNTIME = "2.14.0"  # the older of the two that run what is written here


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
    return {
        STANDARD: _standard(program, host),
        OURS: json.dumps(body, sort_keys=True).encode(),
        MINIMUM_RUNTIME: _RUNTIME.encode().ljust(16, b"\0"),
    }


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
        (),
    )
    given = _tensor(
        builder,
        "output",
        f"Integers; real output = scale * (number - zero) + offset, scale {scales}"
        f"{', ...' if len(program.tail.scale) > 4 else ''} (all in the buffer {OURS}).",
        host["output"]["functions"],
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


def _tensor(builder: Any, name: str, description: str, functions: Any) -> int:
    """A TensorMetadata table; the host's functions that follow are named in the text."""
    after = f" The host then applies: {', '.join(functions)}." if functions else ""
    fields = {
        0: builder.CreateString(name),
        1: builder.CreateString(description + after),
    }
    return _table(builder, fields, 7)


def _table(builder: Any, fields: dict[int, int], slots: int) -> int:
    builder.StartObject(slots)
    for slot, offset in fields.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(builder.EndObject())


def _vector(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
