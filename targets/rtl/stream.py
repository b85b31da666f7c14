"""The byte stream around the network, as Verilog."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from targets.rtl.ports import Ports

MODULE = "network_stream"


def stream(ports: Ports, latency: int) -> str:
    """The module's text; `latency` is the network's, in cycles."""
    into, out = ports.inputs, ports.outputs
    fill = 8 * out.bytes - out.total
    values = {
        "IN_BYTES": into.bytes,
        "OUT_BYTES": out.bytes,
        "IN_BITS": into.total,
        "OUT_BITS": out.total,
        "LATENCY": latency,
        "IN_COUNT": max((into.bytes - 1).bit_length(), 1) - 1,
        "OUT_COUNT": out.bytes.bit_length() - 1,
        "PADDED": f"{{{fill}'d0, codes}}" if fill else "codes",
    }
    return filled("stream.v", values)


def filled(template: str, values: Mapping[str, object]) -> str:
    """A template of this folder with every @NAME@ replaced."""
    text = (resources.files("targets.rtl") / "templates" / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text
