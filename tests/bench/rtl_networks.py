"""Whole networks as Verilog, every output compared, with what the compile took, as a table.

Run with `make bench SUITE=rtl_networks`; minutes on an idle machine. A row is one compile in a new
process, its training done before: all test vectors through the network alone, through the byte
stream, and through the stream with pauses and a reset. A compile ends in an error where an output
differs, or where the cycles that were measured are not the predicted ones. `memory_gb` is of the
largest process. The jets' network is the file onnx/qkeras_jettagging.onnx in $BITWRIGHT_DATA.
Writes reports/baseline/rtl_networks.csv.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from flow.plan import Events, Plan, Request
from flow.tools import run
from targets.rtl.lower import products

TABLE = Path("reports/baseline/rtl_networks.csv")
DATA = Path(os.environ.get("BITWRIGHT_DATA", "../shared/data"))
JETS = str(DATA / "onnx" / "qkeras_jettagging.onnx")
NETWORKS = {"digits_mlp": "", "digits_cnn": "", "digits_bnn": "", JETS: "input=fixed<16,6>"}
METRICS = (
    *("latency_cycles", "interval", "latency through bytes", "interval through bytes"),
    *("adders", "register bits"),
)


def main() -> int:
    """Prints the table; 1 where a network is not exact."""
    rows = [_row(network, opts) for network, opts in NETWORKS.items()]
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    with TABLE.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return int(any(row["outputs_equal"] != row["outputs"] for row in rows))


def _row(network: str, opts: str) -> dict[str, Any]:
    plan = Plan(Request(network, "rtl", dict([opts.split("=")] if opts else [])), Events())
    graph = plan.imported.graph  # trained now, and not again below
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "flow", "compile", f"--model={network}", "--target=rtl"]
        command += [f"--opts={opts}", f"--out={name}/out", "--json"]
        done = run(command, Path.cwd(), Path(name) / "log")
        found = json.loads(done.log.read_text().splitlines()[-1])
    metrics = {metric["name"]: metric["value"] for metric in found["metrics"]}
    row = {
        "network": Path(network).stem,
        "products": sum(products(graph, node) for node in graph.nodes),
        "vectors": found["vectors"],
        "outputs_equal": found["outputs_equal"],
        "outputs": found["outputs_total"],
        **{metric.replace(" ", "_"): int(metrics[metric]) for metric in METRICS},
        "seconds": round(done.seconds),
        "memory_gb": round((done.peak_bytes or 0) / 1e9, 2),
    }
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


if __name__ == "__main__":
    sys.exit(main())
