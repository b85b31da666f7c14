"""`report --synth`: what is printed, and which exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flow.cli import main
from tests.report.vendor.support import DATA, hls4ml_project


def test_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--synth", str(hls4ml_project(tmp_path))]) == 0
    assert capsys.readouterr().out.splitlines()[:14] == [
        "               C synthesis             logic synthesis",
        "tool           Vivado HLS 2020.1       Vivado 2020.1",
        "design         myproject               myproject",
        "part           xc7z020-clg400-1        7z020clg400-1",
        "date           2023-03-18 22:59:37     2023-03-19 07:48:36",
        "clock asked    5.000 ns                -",
        "clock reached  4.049 ns                -",
        "Fmax           247.0 MHz               -",
        "latency        10 cycles               -",
        "interval       8 cycles                -",
        "lut            2532 of 53200 (4.8 %)   1526 of 53200 (2.9 %)",
        "ff             7969 of 106400 (7.5 %)  2428 of 106400 (2.3 %)",
        "dsp            73 of 220 (33.2 %)      66 of 220 (30.0 %)",
        "bram_18k       0 of 280 (0.0 %)        0 of 280 (0.0 %)",
    ]


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--synth", str(hls4ml_project(tmp_path)), "--json"]) == 0
    body = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (body["schema"], body["command"], body["artifact"]) == (1, "report", None)
    csynth, synthesized = body["stages"]
    assert csynth["latency"] == {"min": 10, "max": 10}
    assert synthesized["resources"]["lut"] == {"used": 1526, "available": 53200}
    kinds = {metric["name"]: metric["kind"] for metric in synthesized["metrics"]}
    assert kinds == dict.fromkeys(["lut", "ff", "dsp", "bram_18k"], "measured")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--synth", ""], 2, "SYNTH must be a folder"),
        (["--synth", "none"], 2, "there is no such folder"),
        (["--synth", "empty"], 2, "holds no report that is read"),
        (["--synth", "slow"], 6, "needs 7.600 ns, 5.714 ns asked"),
        (["--synth", "slow", "--artifact", "empty"], 2, "is not an artifact"),
    ],
)
def test_exit_codes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("slow").mkdir()
    shutil.copy(DATA / "edalize/picorv32_wrap_0_1.sta.rpt", "slow")
    assert main(["report", *arguments]) == code
    printed = capsys.readouterr()
    assert says in printed.err
    assert ("131.6 MHz" in printed.out) is (code == 6)  # what was found is shown all the same
