"""Files import from lower floors, or from what stands before them on their own floor."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# In order: a file may import what stands in an earlier row, or earlier in its own row.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "flow",
        "flow.errors",
        "flow.qtype",
        "flow.metric",
        "flow.binomial",
        "flow.spans",
        "flow.roc",
        "flow.options",
    ),
    ("flow.requant", "flow.ops", "flow.graph", "flow.layout"),
    (
        "flow.host_snippet",
        "flow.features_snippet",
        "flow.cost",
        "flow.outline",
        "flow.verify",
        "flow.interp",
        "flow.tools",
        "flow.packages",
        "flow.artifact",
        "flow.csv_table",
        "flow.vectors",
        "flow.idx",
        "flow.user_data",
    ),
    (
        "flow.onnx_file",
        "flow.importer",
        "flow.host",
        "flow.oracle",
        "flow.float_bound",
        "flow.near_ties",
        "flow.float_tools",
        "flow.target",
    ),
    ("flow.qat", "flow.report", "flow.surrogate", "flow.schedule"),
    ("targets", "models"),
    (
        "flow.plan",
        "flow.describe",
        "flow.float_check",
        "flow.pareto",
        "flow.synthesis_report",
        "flow.estimate",
        "flow.sweep",
        "flow.labels",
        "flow.driver",
        "flow.noise_experiment",
        "flow.schedule_plan",
        "flow.driving",
        "flow.scheduling",
        "flow.review",
        "flow.doctor",
        "flow.progress",
        "flow.cli",
        "flow.__main__",
    ),
)
# Third-party packages, and the only places that may import them.
HOMES = {
    "torch": ("flow.qat",),
    "scipy": (
        "flow.binomial",
        "flow.qat",
        "flow.schedule",
        "flow.surrogate.fit",
        "flow.surrogate.evaluate",
        "flow.surrogate.kernels",
        "targets.analog",
    ),
    "distributed": ("flow.labels",),
    "brevitas": ("flow.qat",),
    "sklearn": ("flow.qat", "flow.surrogate.fit"),
    "threadpoolctl": ("flow.surrogate.fit",),
    "PIL": ("flow.qat.images",),
    "qonnx": ("flow.qat", "flow.float_tools"),
    "onnxruntime": ("flow.float_tools",),
    "onnx": ("flow.onnx_file", "flow.qat"),
    "hls4ml": ("targets.hls4ml",),
    "da4ml": ("targets.rtl.solver",),
    "numba": ("targets.rtl.solver", "flow.schedule"),
    "ai_edge_litert": ("targets.tflite.flatbuffer",),
    "flatbuffers": ("targets.tflite.flatbuffer", "targets.tflite.metadata"),
    "tflite_runtime": (),
    "matplotlib": ("flow.report",),
    "rich": ("flow.progress",),
    "jinja2": ("flow.report",),
    "jsonschema": ("flow.report",),
    "markupsafe": ("flow.report",),
    "vl_convert": ("flow.report.bundle",),
}
OURS = ("flow", "targets", "models")


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Modules imported anywhere in a file, inside functions and for type checking too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the floor"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def unit(module: str) -> tuple[int, int] | None:
    """(floor, place on it) of the longest entry of FLOORS that holds the module."""
    best: tuple[int, int] | None = None
    length = -1
    for floor, row in enumerate(FLOORS):
        for place, entry in enumerate(row):
            inside = module == entry or (entry != "flow" and module.startswith(f"{entry}."))
            if inside and len(entry) > length:
                best, length = (floor, place), len(entry)
    return best


def offences(module: str, imported: set[str]) -> list[str]:
    """What `module` may not import, of `imported`."""
    here = unit(module)
    if here is None:
        return [f"{module} stands on no floor; add it to FLOORS"]
    known = modules()
    wrong = []
    for name in imported:
        top = name.split(".")[0]
        if top in OURS:
            exact = name if name in known else name.rpartition(".")[0]
            there = unit(exact)
            if exact == "flow" or exact not in known or there == here:
                continue
            # targets and models stand side by side and must not see each other
            if there is None or there > here or (there[0] == here[0] == 5):
                wrong.append(f"{module} imports {exact}")
        elif top in HOMES and not any(
            module == home or module.startswith(f"{home}.") for home in HOMES[top]
        ):
            wrong.append(f"{module} imports {top}")
    return wrong


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module: str) -> None:
    assert offences(module, imports(modules()[module])) == []


def test_targets_do_not_import_each_other() -> None:
    for module, path in modules().items():
        own = ".".join(module.split(".")[:2])
        for name in imports(path):
            if module.startswith("targets.") and name.startswith("targets."):
                assert name.startswith(own), f"{module} imports {name}"


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("flow.graph", "flow.driver"),
        ("flow.interp", "torch"),
        ("flow.requant", "flow.ops"),
        ("flow.qat.train", "targets.hls4ml.target"),
        ("targets.hls4ml.target", "models.digits_mlp"),
        ("flow.oracle", "onnx"),
    ],
)
def test_a_broken_floor_is_seen(module: str, imported: str) -> None:
    assert offences(module, {imported})
