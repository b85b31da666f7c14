"""A report that was cut off or damaged gives the same numbers or is refused, and never a crash."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.errors import FlowError, UsageError
from flow.report.vendor.synthesis import Synthesis
from tests.report.vendor.support import READERS, content, parsed


def outcome(name: str, changed: bytes) -> Synthesis | None:
    """None where it is refused."""
    try:
        return parsed(name, changed)
    except FlowError:
        return None


def same(a: Synthesis, b: Synthesis) -> bool:
    """But for what the report says in words."""
    return replace(a, notes=()) == replace(b, notes=())


@pytest.mark.parametrize("name", READERS)
def test_every_cut_is_refused_or_gives_the_same_numbers(name: str) -> None:
    """At line ends, where a cut shows least, and inside lines."""
    whole, found = content(name), parsed(name)
    ends = [at + 1 for at, byte in enumerate(whole[:-1]) if byte == 10]
    for at in {0, *ends[:: max(1, len(ends) // 150)], *(end - 3 for end in ends[::17])}:
        left = outcome(name, whole[: max(at, 0)])
        assert left is None or same(left, found), f"cut at {at} of {len(whole)}"
    assert outcome(name, b"") is None
    assert outcome(name, whole[: len(whole) // 2]) is None


@settings(max_examples=300)
@given(st.sampled_from(sorted(READERS)), st.data())
def test_any_cut(name: str, data: st.DataObject) -> None:
    whole = content(name)
    at = data.draw(st.integers(0, len(whole) - 1))
    left = outcome(name, whole[:at])
    assert left is None or same(left, parsed(name))


@settings(max_examples=400)
@given(st.sampled_from(sorted(READERS)), st.data())
def test_damaged_bytes_never_crash(name: str, data: st.DataObject) -> None:
    changed = bytearray(content(name))
    head = data.draw(st.booleans())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(changed), 3000 if head else len(changed)) - 1))
        changed[at] = data.draw(st.integers(0, 255))
    outcome(name, bytes(changed))


@settings(max_examples=100)
@given(st.sampled_from(sorted(READERS)), st.binary(max_size=400))
def test_anything_in_place_of_a_report_is_refused(name: str, anything: bytes) -> None:
    with pytest.raises(UsageError):
        parsed(name, anything)
