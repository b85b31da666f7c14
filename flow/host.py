"""The host's part of a network: its constants as JSON, and the snippets that use them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from flow import features_snippet, host_snippet
from flow.artifact import write_json
from flow.host_snippet import Host
from flow.importer import HostInput, HostOutput


def make_host(head: HostInput, tail: HostOutput) -> Host:
    """The host's part, ready to use here."""
    constants: dict[str, Any] = {}
    if head.front_end is not None:
        constants["features"] = head.front_end.to_json()
    if tail.reconstructs:
        constants["reconstructs"] = True
    return Host(
        {
            **constants,
            "input": {
                "shape": list(head.shape),
                "steps": [
                    {"kind": step.kind.value, "values": list(step.values), "shape": step.shape}
                    for step in head.steps
                ],
                "scale": head.scale,
                "zero_point": head.zero_point,
                "zero_inside": head.zero_inside,
                "bipolar": head.bipolar,
                "rounding": head.rounding.value,
                "low": head.qtype.low,
                "high": head.qtype.high,
            },
            "output": {
                "scale": [str(s) for s in tail.scale],
                "offset": [str(s) for s in tail.offset],
                "low": _text(tail.low),
                "high": _text(tail.high),
                "functions": [function.value for function in tail.functions],
            },
        }
    )


def write_host(folder: Path, head: HostInput, tail: HostOutput) -> None:
    """Write host.py (needs only numpy) and host.json into `folder`; features.py where the network
    takes sound."""
    write_json(folder / "host.json", make_host(head, tail).constants)
    (folder / "host.py").write_text(Path(host_snippet.__file__).read_text())
    if head.front_end is not None:
        (folder / "features.py").write_text(Path(features_snippet.__file__).read_text())


def _text(value: Fraction | None) -> str | None:
    return None if value is None else str(value)
