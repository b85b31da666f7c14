"""Small QONNX files, and running the command as a user does: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = "qonnx.custom_op.general"
SECONDS = 240.0  # no command of these tests takes longer, on a busy machine either


@dataclass
class Network:
    """A QONNX file in the making. `x` is the input, the last tensor that is added the output."""

    shape: tuple[int, ...]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    last: str = "x"

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(
        self, op: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """A node that reads the last tensor, then `inputs`; gives its output's name."""
        name = name or f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(
                op, [self.last, *inputs], [f"{name}_out"], name=name, domain=domain, **attributes
            )
        )
        self.last = f"{name}_out"
        return self.last

    def quant(
        self, name: str, scale: Any, zero: float = 0.0, bits: float = 8.0, **attributes: Any
    ) -> str:
        """A quantizer of the last tensor."""
        return self.add(
            "Quant", *self._quantizer(name, scale, zero, bits), **self._at(attributes, name)
        )

    def weight(self, name: str, values: Any, scale: Any, bits: float = 4.0) -> str:
        """A quantized constant."""
        source = self.constant(name, np.asarray(values, np.float32))
        out = f"{name}_q"
        self.nodes.append(
            helper.make_node(
                "Quant",
                [source, *self._quantizer(name, scale, 0.0, bits)],
                [out],
                **self._at({"narrow": 1}, f"{name}_quant"),
            )
        )
        return out

    def _quantizer(self, name: str, scale: Any, zero: float, bits: float) -> list[str]:
        return [
            self.constant(f"{name}_scale", np.asarray(scale, np.float32)),
            self.constant(f"{name}_zero", np.float32(zero)),
            self.constant(f"{name}_bits", np.float32(bits)),
        ]

    @staticmethod
    def _at(attributes: dict[str, Any], name: str) -> dict[str, Any]:
        plain = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
        return {**plain, **attributes, "name": name, "domain": DOMAIN}

    def proto(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *self.shape])],
            [helper.make_tensor_value_info(self.last, TensorProto.FLOAT, None)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(self, path: Path) -> Path:
        path.write_bytes(self.proto().SerializeToString())
        return path


def mlp(seed: int = 0, hidden: int = 5) -> Network:
    """4 inputs, fc1 with 5 outputs (`hidden`) and a quantized ReLU, fc2 with 3 outputs; scales of
    2^-n."""
    rng = np.random.default_rng(seed)
    net = Network((4,))
    net.quant("inp", 0.125)
    for name, (ins, outs) in {"fc1": (4, hidden), "fc2": (hidden, 3)}.items():
        weight = net.weight(f"{name}_w", rng.integers(-7, 8, (ins, outs)) * 0.25, 0.25)
        net.add("MatMul", weight, name=name)
        if name == "fc1":
            net.add("Relu", name="relu1")
            net.quant("relu1_quant", 0.5, bits=5.0, signed=0)
    return net


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object on the last line of standard output."""
        body = json.loads(self.out.splitlines()[-1])
        assert isinstance(body, dict)
        return body


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with changes; nothing of the test run's own settings of g++."""
    kept = {key: value for key, value in os.environ.items() if key not in ("CXX", "MAKEFLAGS")}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def start(
    *args: str | Path, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """`python -m flow ARGS` under way in the folder `cwd`."""
    return subprocess.Popen(
        [sys.executable, "-m", "flow", *map(str, args)],
        cwd=cwd,
        env=dict(env or environment()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Done:
    """Wait for a command's end."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Done(process.returncode, out, err)


def bitwright(*args: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
    """Run `python -m flow ARGS` in the folder `cwd`, to its end."""
    return finish(start(*args, cwd=cwd, env=env))


def compiling(model: str | Path, *more: str | Path) -> tuple[str | Path, ...]:
    """The arguments of a compile for hls4ml."""
    return ("compile", "--model", model, "--target", "hls4ml", *more)


def assert_refused(done: Done, code: int, *says: str) -> None:
    """One message on standard error, nothing on standard output, no traceback."""
    assert done.code == code, done
    assert "Traceback" not in done.err, done.err
    assert "Warning" not in done.err, done.err
    assert done.err.count("bitwright: error: ") == 1, done.err
    assert done.out == ""
    for text in says:
        assert text in done.err, (text, done.err)


def left_behind(folder: Path) -> list[str]:
    """What a stopped command left in a runs folder, other than finished artifacts and trainings."""
    if not folder.exists():
        return []
    found = []
    for path in folder.rglob("*"):
        inside_artifact = any(
            (parent / "manifest.json").is_file() for parent in path.parents if parent != folder
        )
        half = path.name.endswith((".part", ".old", ".lock"))
        empty = path.is_dir() and path.name != "models" and not any(path.iterdir())
        if half or (empty and not inside_artifact):
            found.append(str(path.relative_to(folder)))
    return found


def artifacts(runs: Path) -> list[Path]:
    """The complete artifacts in a runs folder."""
    return sorted(path.parent for path in runs.glob("*/manifest.json"))


def until(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until it has happened."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def programs(marker: str | Path) -> list[int]:
    """The processes whose command line or working folder mentions `marker`, but not this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
            where = os.readlink(entry / "cwd")
        except OSError:
            continue
        if str(marker) in line or where.startswith(str(marker)):
            found.append(int(entry.name))
    return found


def script(path: Path, lines: Sequence[str]) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def save_array(path: Path, array: Any) -> Path:
    """A .npy file."""
    values: NDArray[Any] = np.asarray(array)
    np.save(path, values, allow_pickle=values.dtype == object)
    return path
