"""Intel oneAPI's FPGA reports: the .ndjson files of <name>.prj/reports/resources/json.

`summary.ndjson` and `loop_attr.ndjson` are the compiler's estimates, `quartus.ndjson` what Quartus
made of the design.
"""

from __future__ import annotations

from typing import Any

from flow.report.vendor.reading import Damaged, Form, cut, json_number, read_json, require_end
from flow.report.vendor.synthesis import Clock, Count, Cycles, Module, Resource, Stage, Synthesis

_COLUMNS = {
    "ALUTs": Resource.ALUT,
    "FFs": Resource.FF,
    "RAMs": Resource.RAM,
    "DSPs": Resource.DSP,
    "MLABs": Resource.MLAB,
}
_FITTED = {
    "alm": Resource.ALM,
    "alut": Resource.ALUT,
    "reg": Resource.FF,
    "dsp": Resource.DSP,
    "ram": Resource.RAM,
    "mlab": Resource.MLAB,
}


def _lines(text: str, where: str) -> list[dict[str, Any]]:
    require_end(text, where)
    found = [read_json(line, where) for line in text.splitlines() if line.strip()]
    if not found or not all(
        isinstance(row, dict) and isinstance(row.get("name"), str) for row in found
    ):
        raise Damaged(f"{where}: every line must be an object with a name")
    return found


def read_summary(text: str, where: str) -> Synthesis:
    """Resources of the whole and of each kernel, as the compiler estimates them. Raises Damaged."""
    rows = [row for row in _lines(text, where) if row.get("parent") == "estimatedResources"]
    heads = [row for row in _lines(text, where) if row.get("summary_type") == "estimatedResources"]
    if len(heads) != 1 or not isinstance(heads[0].get("columns"), list):
        raise cut(where, "the table of resources is not there")
    columns = [str(name).strip() for name in heads[0]["columns"]][1:]
    if [name for name in columns if name in _COLUMNS] != list(_COLUMNS):
        raise Damaged(f"{where}: the columns must be {', '.join(_COLUMNS)}, not {columns}")
    kernels = [row for row in rows if "classes" not in row]
    sums = {row["name"]: _row(row, columns, where) for row in rows if "classes" in row}
    for name in ("Kernel Subtotal", "Total", "Available"):
        if name not in sums:
            raise cut(where, f"the row {name!r} is not there")
    modules = tuple(Module(row["name"], _row(row, columns, where)) for row in kernels)
    total, available = sums.pop("Total"), sums.pop("Available")
    _check_sum(sums["Kernel Subtotal"], [m.resources for m in modules], where)
    _check_sum(total, list(sums.values()), where)
    return Synthesis(
        "oneAPI",
        None,
        Stage.C_SYNTHESIS,
        (where,),
        resources={kind: Count(total[kind], available[kind]) for kind in total},
        modules=modules,
    )


def _row(row: dict[str, Any], columns: list[str], where: str) -> dict[Resource, float]:
    data = row.get("data")
    if not isinstance(data, list) or len(data) != len(columns):
        raise Damaged(f"{where}: {row['name']}: must have {len(columns)} numbers")
    return {
        _COLUMNS[name]: json_number(value, f"{where}: {row['name']}: {name}")
        for name, value in zip(columns, data, strict=True)
        if name in _COLUMNS
    }


def _check_sum(whole: Any, parts: list[Any], where: str) -> None:
    for kind, used in whole.items():
        if used != sum(part[kind] for part in parts):
            raise Damaged(f"{where}: {kind.value}: the total is not the sum of the rows")


def read_loops(text: str, where: str) -> Synthesis:
    """The clock that the compiler aims at, and cycles of each kernel's longest block. The design's
    own latency is not in there: kernels run side by side, connected by pipes. Raises Damaged."""
    first, *rows = _lines(text, where)
    known = {row.get("id"): row for row in rows}
    asked = [*_list(first, "nodes"), *(at for row in rows for at in _list(row, "children"))]
    if len(known) != len(rows) or set(known) != set(asked) or first["name"] != "loop_attributes":
        raise cut(where, "a block that it names is not there")
    modules, slowest = [], float("inf")
    for kernel in (known[at] for at in _list(first, "nodes")):
        blocks = [known[at] for at in _list(kernel, "children")]
        name = f"{where}: {kernel['name']}"
        frequencies = [json_number(b.get("af"), f"{name}: af") for b in blocks]
        slowest = min([slowest, *frequencies])
        waits = [json_number(b.get("lt"), f"{name}: lt") for b in blocks]
        again = [json_number(b.get("ii"), f"{name}: ii") for b in blocks if b.get("ii") != "n/a"]
        modules.append(Module(kernel["name"], {}, _most(waits), _most(again)))
    if not 0 < slowest < float("inf"):
        raise Damaged(f"{where}: no block has a frequency")
    return Synthesis(
        "oneAPI",
        None,
        Stage.C_SYNTHESIS,
        (where,),
        clocks=(Clock("kernel clock", None, 1000 / slowest),),
        modules=tuple(modules),
    )


def _list(row: dict[str, Any], key: str) -> list[Any]:
    found = row.get(key, [])
    return found if isinstance(found, list) and all(isinstance(at, int) for at in found) else []


def _most(values: list[float]) -> Cycles | None:
    return Cycles(round(max(values)), round(max(values))) if values else None


def read_quartus(text: str, where: str) -> Synthesis:
    """The device image after place and route. Raises Damaged."""
    body = read_json(text, where)
    try:
        (clock,) = body["quartusFitClockSummary"]["nodes"]
        nodes = body["quartusFitResourceUsageSummary"]["nodes"]
        (image,) = [node for node in nodes if node["type"] == "system"]
        kernels = [node for node in nodes if node["type"] == "kernel"]
        fmax = json_number(clock["clock fmax"], f"{where}: clock fmax")
        whole = _fitted(image, where)
        modules = tuple(Module(str(node["name"]), _fitted(node, where)) for node in kernels)
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{where}: is not as oneAPI writes it: {error!r}") from error
    if fmax <= 0:
        raise Damaged(f"{where}: clock fmax must be above 0")
    return Synthesis(
        "oneAPI (Quartus)",
        None,
        Stage.ROUTED,
        (where,),
        design=modules[0].name if len(modules) == 1 else None,
        clocks=(Clock("kernel clock", None, 1000 / fmax),),
        resources={kind: Count(used) for kind, used in whole.items()},
        modules=modules,
    )


def _fitted(node: dict[str, Any], where: str) -> dict[Resource, float]:
    return {kind: json_number(node[key], f"{where}: {key}") for key, kind in _FITTED.items()}


def _is(name: str) -> Any:
    return lambda path, head: path.rpartition("/")[2] == name and head.lstrip().startswith("{")


_JS = (
    "there is no real file to test a reader with; run Quartus "
    "on its project and give .fit.rpt and .sta.rpt"
)
FORMS = (
    Form("estimate", _is("summary.ndjson"), read_summary),
    Form("loops", _is("loop_attr.ndjson"), read_loops),
    Form("Quartus", _is("quartus.ndjson"), read_quartus),
    Form(
        "report of Intel's HLS compiler",
        lambda name, _: name.endswith(
            ("lib/report_data.js", "lib/verification_data.js", "lib/quartus_data.js")
        ),
        None,
        _JS,
    ),
    Form(
        "report of Catapult",
        lambda name, _: name.rpartition("/")[2] == "rtl.rpt",
        None,
        "there is no real file of Catapult to test a reader with; its Vivado run's are read",
    ),
)
