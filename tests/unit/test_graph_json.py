"""A graph's JSON is untrusted: too much of it is refused before it takes memory."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from flow import graph as graphs
from flow.errors import UsageError
from flow.graph import Graph, Node, Value
from flow.ops import Dense
from flow.qtype import QType


def text() -> str:
    one = (Fraction(1),)
    source = Value("x", (3,), QType(4, True), one)
    op = Dense(np.ones((2, 3), dtype=np.int64), np.zeros(2, dtype=np.int64))
    made = Value("y", (2,), QType(8, True), one)
    return Graph.build("net", source, (Node("y", op, ("x",), made),)).to_json()


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_TEXT", 100, "at most 100 characters"),
        ("MAX_NODES", 0, "at most 0 nodes, not 1"),
        ("MAX_CONSTANTS", 7, "at most 7 constants, not 8"),
    ],
)
def test_more_than_the_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int, message: str
) -> None:
    assert Graph.from_json(text()).to_json() == text()
    monkeypatch.setattr(graphs, limit, value)
    with pytest.raises(UsageError, match=message):
        Graph.from_json(text())


@pytest.mark.parametrize("scale", ["1e999999999", "9" * 9000, "0.1", "1/0", "nan", 3])
def test_scales_are_plain_fractions(scale: Any) -> None:
    body = json.loads(text())
    body["input"]["scale"] = [scale]
    with pytest.raises(UsageError, match="graph JSON is damaged"):
        Graph.from_json(json.dumps(body))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(UsageError, match="nested too deeply"):
        Graph.from_json("[" * 200_000)
