"""Has hls4ml write the project, then adds the self-checking test bench and its vectors."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from flow.errors import FlowError, ToolMissing
from flow.target import Program
from targets.hls4ml.layers import Kind, Layer

TOP = "dut"


def write_project(
    folder: Path,
    layers: list[Layer],
    program: Program,
    settings: dict[str, Any],
    layer_settings: Callable[[Layer], dict[str, Any]],
) -> str:
    """Write the project into the empty folder `folder`; gives what hls4ml printed.

    `settings` are hls4ml's own keys (Backend, Part, ClockPeriod, IOType), `layer_settings` gives
    ReuseFactor and Strategy of one layer.

    Raises:
        ToolMissing: hls4ml is not installed.
        FlowError: hls4ml changed a layer or a precision on its way.
    """
    try:
        from hls4ml.backends import get_backend
        from hls4ml.model.graph import ModelGraph
    except ImportError as error:
        raise ToolMissing(
            f"the package hls4ml is needed for TARGET=hls4ml, but cannot be imported ({error}). "
            f"Get it: pip install 'bitwright[hls4ml]'"
        ) from error
    config = get_backend(settings["Backend"]).create_initial_config(
        part=settings["Part"], clock_period=settings["ClockPeriod"], io_type=settings["IOType"]
    )
    config |= {
        "Backend": settings["Backend"],
        "OutputDir": str(folder),
        "ProjectName": TOP,
        "HLSConfig": {
            # Every tensor has its own precision below; one bit for all others would show at once.
            "Model": {"Precision": "fixed<1,1>", "ReuseFactor": 1, "Strategy": "latency"},
            "LayerName": {
                layer.name: {
                    "Precision": {name: str(t) for name, t in layer.precision.items()},
                    "Trace": True,
                    **layer_settings(layer),
                }
                for layer in layers
            },
        },
    }
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        model = ModelGraph.from_layer_list(config, [_entry(layer) for layer in layers])
        _refuse_changes(model, layers)
        model.config.trace_output = True
        model.write()
    _tidy(folder)
    _refuse_changed_constants(folder)
    _complete(folder, layers, program, settings["IOType"])
    return printed.getvalue()


def _entry(layer: Layer) -> dict[str, Any]:
    entry = {"class_name": layer.kind.value, "name": layer.name, **layer.attributes}
    return entry if layer.kind is Kind.INPUT else {**entry, "inputs": list(layer.sources)}


def _refuse_changes(model: Any, layers: list[Layer]) -> None:
    """hls4ml's optimizers may drop, merge or retype layers; here they must not."""
    found = {node.name: node for node in model.get_layers()}
    for layer in layers:
        if layer.kind is Kind.FLATTEN and layer.name not in found:
            continue  # becomes part of its neighbours in some io types; holds no arithmetic
        if layer.name not in found:
            raise FlowError(
                f"hls4ml removed the layer {layer.name}; the project would be another net"
            )
        precision = found[layer.name].get_output_variable().type.precision
        asked = layer.precision["result"]
        kept = (precision.width, precision.integer, bool(precision.signed))
        if kept != (asked.bits, asked.bits - asked.point, asked.signed):
            raise FlowError(f"hls4ml made the result of {layer.name} {precision}, not {asked}")


def _tidy(folder: Path) -> None:
    """Take out what depends on this machine or this run: paths, stamps, hls4ml's own simulation."""
    for name in ("build_lib.sh", f"{TOP}_bridge.cpp", "hls4ml_config.yml"):
        (folder / name).unlink(missing_ok=True)


def _refuse_changed_constants(folder: Path) -> None:
    """Simulation reads a constant from its .txt, synthesis from its .h: they must be the same."""
    for text in sorted((folder / "firmware" / "weights").glob("*.txt")):
        header = text.with_suffix(".h").read_text()
        body = re.search(r"= \{(.*?)\};", header, re.DOTALL)
        if body is None or body[1].strip() != text.read_text().strip():
            raise FlowError(f"{text.name} and {text.with_suffix('.h').name} hold other constants")


def _complete(folder: Path, layers: list[Layer], program: Program, io_type: str) -> None:
    first, last = layers[0], layers[-1]
    inputs = first.layout.to_hls(program.vectors)
    outputs = last.layout.to_hls(program.expected)
    data = folder / "tb_data"
    data.mkdir(exist_ok=True)
    np.savetxt(data / "tb_input_features.dat", inputs, fmt="%d")
    np.savetxt(data / "tb_output_predictions.dat", outputs, fmt="%d")
    bench = fill("dut_test.cpp", layers, io_type)
    (folder / f"{TOP}_test.cpp").write_text(bench)
    check = folder / "check.sh"
    check.write_text(_template("check.sh"))
    check.chmod(0o755)


def fill(name: str, layers: list[Layer], io_type: str) -> str:
    """A C++ template with the project's sizes and types in it."""
    n_in, n_out = (layer.layout.order.size for layer in (layers[0], layers[-1]))
    stream = io_type == "io_stream"
    traced = "\n".join(
        f'    layers.push_back(std::make_pair("{layer.name}", {layer.layout.order.size}));'
        for layer in traced_layers(layers)
    )
    return (
        _template(name)
        .replace("@N_IN@", str(n_in))
        .replace("@N_OUT@", str(n_out))
        .replace("@INPUT@", 'hls::stream<input_t> x("x")' if stream else f"input_t x[{n_in}]")
        .replace("@OUTPUT@", 'hls::stream<result_t> y("y")' if stream else f"result_t y[{n_out}]")
        .replace("@TRACE@", traced)
    )


def traced_layers(layers: list[Layer]) -> list[Layer]:
    """The layers that give a graph value and whose results hls4ml's trace keeps."""
    hidden = (Kind.INPUT, Kind.FLATTEN)
    return [layer for layer in layers if layer.kind not in hidden and layer.value is not None]


def _template(name: str) -> str:
    return (resources.files("targets.hls4ml") / "templates" / name).read_text()
