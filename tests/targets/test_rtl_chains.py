"""Carry chains of an ECP5: which pins are opened for nextpnr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from targets.rtl.implement.chains import open_ends

TAKEN, FREE, OUTPUT = 10, 11, 12  # nets: into another cell, nowhere, to a port of the module


def opened(folder: Path, carry_in: object, init: str, carry_out: int, c: str = "1") -> Any:
    """The pins of a CCU2C afterwards."""
    pins = {"CIN": [carry_in], "C0": [c], "D0": ["1"], "COUT": [carry_out]}
    chain = {"type": "CCU2C", "parameters": {"INIT0": init}, "connections": pins}
    other = {"type": "LUT4", "parameters": {}, "connections": {"A": [TAKEN]}}
    module = {"ports": {"y": {"bits": [OUTPUT]}}, "cells": {"chain": chain, "other": other}}
    path = folder / "design.json"
    path.write_text(json.dumps({"modules": {"top": module}}))
    open_ends(path)
    found = json.loads(path.read_text())["modules"]["top"]["cells"]
    assert found["other"] == other
    return found["chain"]["connections"]


@pytest.mark.parametrize(
    ("carry_in", "init", "c", "left"),
    [
        ("0", "0000" + 8 * "0" + "1000", "1", "x"),
        ("0", "0110" + 8 * "0" + "1010", "1", "0"),  # a sum, which takes it
        ("0", "0000" + 8 * "0" + "1000", "0", "0"),  # another part of its LUT
        ("1", "0000" + 8 * "0" + "1000", "1", "1"),
        (TAKEN, "0000" + 8 * "0" + "1000", "1", TAKEN),
    ],
)
def test_a_carry_into_a_half_that_takes_none_is_opened(
    carry_in: object, init: str, c: str, left: object, tmp_path: Path
) -> None:
    assert opened(tmp_path, carry_in, init, TAKEN, c)["CIN"] == [left]


@pytest.mark.parametrize(("net", "left"), [(FREE, "x"), (TAKEN, TAKEN), (OUTPUT, OUTPUT)])
def test_a_carry_that_nobody_takes_is_opened(net: int, left: object, tmp_path: Path) -> None:
    assert opened(tmp_path, "0", 16 * "0", net)["COUT"] == [left]
