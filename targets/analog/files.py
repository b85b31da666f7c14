"""What an artifact holds: the device, where each layer's devices are, and what they shall hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flow.artifact import write_json
from flow.errors import FlowError
from targets.analog.device import Device
from targets.analog.engine import Layer
from targets.analog.mapping import FloatArray, Mapped

DEVICE, MAPPING, ARRAYS = "device.toml", "mapping.json", "arrays.npz"
SLACK = 1e-9  # of levels, which are computed from conductances


def write_files(
    folder: Path,
    text: str,
    device: Device,
    layers: tuple[Layer, ...],
    reach: Mapping[str, float],
    active: Mapping[str, float],
) -> None:
    """Write the device's text, the mapping, and the targets of all devices: conductances in
    microsiemens, or optical weights from -1 to 1; (groups, inputs, columns) of each layer."""
    (folder / DEVICE).write_text(text)
    body = {
        "levels": "microsiemens" if device.conductance else "optical weights, -1 to 1",
        "reach": dict(reach),
        "activity": dict(active),
        "layers": [_described(place, layer) for place, layer in enumerate(layers)],
    }
    write_json(folder / MAPPING, body)
    arrays = {
        f"layer{place}": to_values(layer.mapped.levels, device)
        for place, layer in enumerate(layers)
    }
    np.savez_compressed(folder / ARRAYS, **arrays)


def _described(place: int, layer: Layer) -> dict[str, Any]:
    mapped, converter = layer.mapped, layer.converter
    return {
        "name": mapped.name,
        "array": f"layer{place}",
        "row blocks": [[rows.start, rows.stop] for rows in mapped.row_blocks],
        "column blocks": [[block.start, block.stop] for block, _ in mapped.column_blocks],
        "factors of slices": mapped.factors.tolist(),
        "weights of passes": layer.drive.weights.tolist(),
        "converter": {"step": converter.step, "low": converter.low, "high": converter.high},
    }


def to_values(levels: FloatArray, device: Device) -> FloatArray:
    """What devices hold at these levels."""
    span = device.conductance
    return levels if span is None else span.min_us + span.span * levels


def read_device_text(folder: Path) -> str:
    """The TOML of the artifact's device. Raises FlowError where it holds none."""
    try:
        return (folder / DEVICE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FlowError(f"{folder / DEVICE} cannot be read: {error}; compile again") from error


def read_reach(folder: Path) -> dict[str, float]:
    """The readings' reach by node, as it was calibrated. Raises FlowError."""
    return _numbers(folder, "reach")


def read_activity(folder: Path) -> dict[str, float]:
    """How much arrays are driven, by node. Raises FlowError."""
    return _numbers(folder, "activity")


def _numbers(folder: Path, key: str) -> dict[str, float]:
    try:
        body = json.loads((folder / MAPPING).read_text())
        return {str(name): float(value) for name, value in dict(body[key]).items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FlowError(f"{folder / MAPPING} cannot be read: {error!r}; compile again") from error


def read_levels(folder: Path, layers: Mapping[int, Mapped], device: Device) -> dict[int, Mapped]:
    """The layers with the levels that the artifact's arrays hold. Raises FlowError where they are
    not of these layers."""
    path, span, found = folder / ARRAYS, device.conductance, {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for place, (number, layer) in enumerate(layers.items()):
                values = arrays[f"layer{place}"]
                if values.shape != layer.levels.shape or values.dtype != np.float64:
                    raise ValueError(f"layer{place} is {values.dtype} {values.shape}")
                levels = values if span is None else (values - span.min_us) / span.span
                least = -1 if span is None else 0
                if not ((levels >= least - SLACK) & (levels <= 1 + SLACK)).all():
                    raise ValueError(f"layer{place} holds what its devices cannot")
                found[number] = replace(layer, levels=levels)
    except (OSError, ValueError, KeyError) as error:
        raise FlowError(f"{path} cannot be read: {error}; compile again") from error
    return found
