"""Has hls4ml write the project, then adds the self-checking test bench and its vectors."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from flow.errors import FlowError, ToolMissing
from flow.target import Program
from targets.hls4ml.backends import FACTS, Backend
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
        from hls4ml.model.types import XnorPrecisionType
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
                    "Precision": {
                        name: XnorPrecisionType() if t.sign else str(t)
                        for name, t in layer.precision.items()
                    },
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
    _trace_each_layer(folder, model)
    _tidy(folder)
    _refuse_changed_constants(folder)
    _complete(folder, layers, program, Backend(settings["Backend"]), settings["IOType"])
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
        sign = any(base.__name__ == "XnorPrecisionType" for base in type(precision).__mro__)
        kept = (precision.width, precision.integer, bool(precision.signed), sign)
        if kept != (asked.bits, asked.bits - asked.point, asked.signed, asked.sign):
            raise FlowError(f"hls4ml made the result of {layer.name} {precision}, not {asked}")


def _trace_each_layer(folder: Path, model: Any) -> None:
    """hls4ml's Quartus writer saves the last layer's stream under every layer's name: have each
    save its own."""
    firmware = folder / "firmware" / f"{TOP}.cpp"
    results = {node.name: node.get_output_variable() for node in model.get_layers()}

    def own(match: re.Match[str]) -> str:
        result = results[match[1]]
        size = result.size_cpp()
        return f'save_layer_output<{result.type.name}>({result.name}, "{match[1]}", {size});'

    if model.config.get_config_value("Backend") == Backend.QUARTUS.value and streams(model):
        saved = r'save_layer_output<\w+>\(\w+, "(\w+)", [^)]*\);'
        firmware.write_text(re.sub(saved, own, firmware.read_text()))


def streams(model: Any) -> bool:
    return bool(model.config.get_config_value("IOType") == "io_stream")


def _tidy(folder: Path) -> None:
    """Take out what depends on this machine or this run (paths, stamps, hls4ml's own simulation),
    and the manuals and tests that come with Catapult's headers."""
    for name in ("build_lib.sh", f"{TOP}_bridge.cpp", "hls4ml_config.yml"):
        (folder / name).unlink(missing_ok=True)
    for name in ("ac_types/pdfdocs", "ac_types/gdb", "ac_math/pdfdocs", "ac_math/tests"):
        shutil.rmtree(folder / "firmware" / name, ignore_errors=True)


def _refuse_changed_constants(folder: Path) -> None:
    """Simulation reads a constant from its .txt, synthesis from its .h: they must be the same."""
    for text in sorted((folder / "firmware" / "weights").glob("*.txt")):
        header = text.with_suffix(".h").read_text()
        body = re.search(r"= \{(.*?)\};", header, re.DOTALL)
        if body is None or body[1].strip() != text.read_text().strip():
            raise FlowError(f"{text.name} and {text.with_suffix('.h').name} hold other constants")


def _complete(
    folder: Path, layers: list[Layer], program: Program, backend: Backend, io_type: str
) -> None:
    first, last = layers[0], layers[-1]
    inputs = first.layout.to_device(program.vectors)
    outputs = last.layout.to_device(program.expected)
    data = folder / "tb_data"
    data.mkdir(exist_ok=True)
    np.savetxt(data / "tb_input_features.dat", inputs, fmt="%d")
    np.savetxt(data / "tb_output_predictions.dat", outputs, fmt="%d")
    (folder / f"{TOP}_test.cpp").write_text(fill("dut_test.cpp", folder, layers, backend, io_type))
    check = folder / "check.sh"
    check.write_text(_template("check.sh").replace("@FLAGS@", " ".join(FACTS[backend].flags)))
    check.chmod(0o755)


def fill(name: str, project: Path, layers: list[Layer], backend: Backend, io_type: str) -> str:
    """A C++ template with the sizes and types of the written project in it."""
    n_in, n_out = (layer.layout.order.size for layer in (layers[0], layers[-1]))
    facts = FACTS[backend]
    traced = "\n".join(
        f'    layers.push_back(std::make_pair("{layer.name}", {layer.layout.order.size}));'
        for layer in traced_layers(layers)
    )
    return (
        _template(name)
        .replace("@INFER@", facts.stream if io_type == "io_stream" else facts.array)
        .replace("@WEIGHTS@", _weights(project) if facts.extern_weights else "")
        .replace("@MAIN@", facts.main)
        .replace("@N_IN@", str(n_in))
        .replace("@N_OUT@", str(n_out))
        .replace("@TRACE@", traced)
    )


def _weights(project: Path) -> str:
    """The arrays that Catapult's firmware expects its test bench to hold."""
    found = []
    for header in sorted((project / "firmware" / "weights").glob("*.h")):
        found += re.findall(r"^extern (.*;)$", header.read_text(), re.MULTILINE)
    return "\n".join(found) + "\n"


def traced_layers(layers: list[Layer]) -> list[Layer]:
    """The layers that give a graph value and whose results hls4ml's trace keeps."""
    hidden = (Kind.INPUT, Kind.FLATTEN)
    return [layer for layer in layers if layer.kind not in hidden and layer.value is not None]


def _template(name: str) -> str:
    return (resources.files("targets.hls4ml") / "templates" / name).read_text()
