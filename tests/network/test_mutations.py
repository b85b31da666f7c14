"""Damaged files: they are read, or refused with an error meant for users; nothing else happens."""

from __future__ import annotations

import multiprocessing
import resource
import time
import traceback
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from flow.errors import Unsupported, UsageError
from flow.importer import import_qonnx
from flow.interp import Interpreter
from flow.onnx_file import read
from tests.network.mutations import mutate
from tests.network.nets import Net, qdq_net, random_net
from tests.network.wide import wide_net

FILES, CHUNK = 1000, 125
SECONDS, BYTES = 20.0, 1 << 30  # of a file; far above what they take, as machines are noisy


def sources(folder: Path) -> list[bytes]:
    """Small valid networks: an image and a vector, branches, QDQ."""
    path = folder / "valid.onnx"
    made = [
        random_net(np.random.default_rng(seed), path, po2=False).read_bytes() for seed in (0, 3)
    ]
    made += [wide_net(np.random.default_rng(s), path, po2=True).read_bytes() for s in (4, 11, 19)]
    return [*made, qdq_net(path).read_bytes()]


def attempt(path: Path) -> str:
    """What became of the file: the name of its outcome, and what else there is to say."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Interpreter(import_qonnx(read(path), "net").graph)
    except (UsageError, Unsupported) as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {where.name}, {where.filename}:{where.lineno}: {error}"
    return "read"


def limit_memory() -> None:
    """What the interpreter and its libraries hold already, and BYTES more."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + BYTES, held + BYTES))


def outcomes(folder: Path, valid: list[bytes], seeds: range) -> list[tuple[int, str, float]]:
    """(seed, outcome, seconds) of the file that each seed gives."""
    made = []
    for seed in seeds:
        path = folder / f"{seed}.onnx"
        path.write_bytes(mutate(np.random.default_rng(seed), valid[seed % len(valid)]))
        start = time.process_time()
        outcome = attempt(path)
        made.append((seed, outcome, time.process_time() - start))
        path.unlink()
    return made


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    valid = sources(tmp_path)
    starts = range(0, FILES, CHUNK)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, limit_memory) as pool:
        futures = [
            pool.submit(outcomes, tmp_path, valid, range(start, start + CHUNK)) for start in starts
        ]
        results = [result for future in futures for result in future.result()]
    allowed = ("read", "UsageError", "Unsupported")
    kinds = Counter(outcome.split(":")[0] for _, outcome, _ in results)
    assert [(s, o) for s, o, _ in results if o.split(":")[0] not in allowed] == []
    assert [(s, o, t) for s, o, t in results if t > SECONDS] == []
    # The damage must be of all sorts, or this would test nothing.
    assert len(results) == FILES and all(kinds[kind] > FILES // 20 for kind in allowed)
    # A refusal says what is wrong: never an empty or endless text.
    assert all(20 < len(o) < 20_000 for _, o, _ in results if o != "read")


def test_the_valid_files_are_read(tmp_path: Path) -> None:
    for index, data in enumerate(sources(tmp_path)):
        path = tmp_path / f"{index}.onnx"
        path.write_bytes(data)
        assert attempt(path) == "read"


def test_another_error_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: an error that is not meant for users is not taken for a refusal."""
    path = tmp_path / "net.onnx"
    path.write_bytes(sources(tmp_path)[0])
    monkeypatch.setattr("flow.importer.lowering.Lowering._visit", lambda *_: 1 // 0)
    assert attempt(path).startswith("ZeroDivisionError in")


def pixels(net: Net, *numbers: float) -> str:
    kind = np.float32 if any(isinstance(n, float) for n in numbers) else np.int64
    return net.constant(np.array(numbers, dtype=kind))


def padded(net: Net, x: str) -> str:
    return net.node("Pad", [x, pixels(net, 0, 0, 4000, 4000, 0, 0, 4000, 4000)])


def resized(net: Net, x: str) -> str:
    return net.node("Resize", [x, "", pixels(net, 1.0, 1.0, 1000.0, 1000.0)], mode="nearest")


def upsampled_by_sizes(net: Net, x: str) -> str:
    return net.node("Resize", [x, "", "", pixels(net, 1, 4, 64000, 64000)], mode="nearest")


def convolved(net: Net, x: str) -> str:
    weight = net.quant(net.constant(np.ones((1, 4, 3, 3))), 1.0, 4)
    return net.node("Conv", [x, weight], pads=[60_000] * 4)


def convolved_in_strides(net: Net, x: str) -> str:
    """The output is small, but not what it is computed from."""
    weight = net.quant(net.constant(np.ones((1, 4, 3, 3))), 1.0, 4)
    return net.node("Conv", [x, weight], pads=[60_000] * 4, strides=[60_000] * 2)


def joined(net: Net, x: str) -> str:
    for _ in range(12):
        x = net.node("Concat", [x, x, x], axis=1)
    return x


@pytest.mark.parametrize(
    "build", [padded, resized, upsampled_by_sizes, convolved, convolved_in_strides, joined]
)
def test_values_that_no_memory_holds_are_refused_first(
    tmp_path: Path, build: Callable[[Net, str], str]
) -> None:
    net = Net((4, 64, 64))
    path = net.save(tmp_path / "net.onnx", build(net, net.quant("x", 0.5, 4)))
    tracemalloc.start()
    try:
        outcome = attempt(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcome.startswith("UsageError") and "more than 16777216 numbers" in outcome
    assert peak < BYTES  # what is allowed takes 128 MiB for every index map


def test_a_large_input_is_refused(tmp_path: Path) -> None:
    net = Net((1 << 20, 1 << 20, 1 << 20))  # the product is 0 in 64 bits
    outcome = attempt(net.save(tmp_path / "net.onnx", net.quant("x", 0.5, 4)))
    assert "input 'x'" in outcome and "more than 16777216 numbers" in outcome


def test_a_reshape_whose_size_overflows_is_refused(tmp_path: Path) -> None:
    net = Net((4, 64, 64))
    x = net.node("Reshape", [net.quant("x", 0.5, 4), pixels(net, 1, 1 << 32, 1 << 32, -1)])
    assert "cannot be reshaped" in attempt(net.save(tmp_path / "net.onnx", x))


def test_quantizers_of_too_many_codes_are_refused(tmp_path: Path) -> None:
    """An interpreter could not be built: it keeps one step per code."""
    net = Net((3,))
    weight = net.quant(net.constant(np.full((2, 3), 100.0)), 1.0, 8)
    made = net.node("Gemm", [net.quant("x", 1.0, 16), weight], transB=1)
    outcome = attempt(net.save(tmp_path / "net.onnx", net.quant(made, 0.3, 32)))
    assert outcome.startswith("Unsupported") and "at most 20 bits" in outcome


def test_a_wide_image_per_tensor_is_quick(tmp_path: Path) -> None:
    """Two million channels behind a Flatten: one rule for all of them, not one each."""
    net = Net((2, 1024, 1024))
    x = net.node("Flatten", [net.quant("x", 0.5, 8)], axis=1)
    x = net.quant(net.node("Relu", [x]), 0.3, 8)
    levels = net.constant(np.array([[0.1, 1.0, 7.0]]))
    x = net.node("MultiThreshold", [x, levels], out_dtype="UINT2")
    path = net.save(tmp_path / "net.onnx", net.quant(net.node("Sigmoid", [x]), 0.1, 4))
    start = time.process_time()
    assert attempt(path) == "read"
    assert time.process_time() - start < SECONDS


def huge_zero_point(net: Net) -> str:
    weight = net.quant(net.constant(np.ones((2, 4))), 0.5, 4, zero=3e38)
    return net.node("Gemm", [net.quant("x", 0.5, 4), weight], transB=1)


def text_for_a_number(net: Net) -> str:
    levels = net.constant(np.array([[1.0, 2.0]]))
    x = net.quant("x", 0.5, 4)
    return net.node("MultiThreshold", [x, levels], out_dtype="INT2", out_bias="two")


def no_rows(net: Net) -> str:
    levels = net.constant(np.zeros((0, 3)))
    return net.node("MultiThreshold", [net.quant("x", 0.5, 4), levels], out_dtype="INT2")


def float_zero_point(net: Net) -> str:
    zero = net.constant(np.float32(0.5))
    weight = net.node("DequantizeLinear", [net.constant(np.int8([[1, 2, 3, 4]])), zero, zero])
    return net.node("Gemm", [net.quant("x", 0.5, 4), weight], transB=1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (huge_zero_point, "zero-point must be a whole number below"),
        (text_for_a_number, "out_bias must be a number"),
        (no_rows, "its thresholds must be"),
        (float_zero_point, "its zero-point is of type float32"),
    ],
)
def test_constants_that_mean_nothing_are_refused(
    tmp_path: Path, build: Callable[[Net], str], message: str
) -> None:
    net = Net((4,))
    outcome = attempt(net.save(tmp_path / "net.onnx", build(net)))
    assert outcome.startswith(("UsageError", "Unsupported")) and message in outcome


def test_thresholds_beyond_every_accumulator_are_kept(tmp_path: Path) -> None:
    net = Net((4,))
    levels = net.constant(np.array([[-1e30, 1.0, 1e30]]))
    x = net.node("MultiThreshold", [net.quant("x", 0.5, 4), levels], out_dtype="INT2")
    graph = import_qonnx(read(net.save(tmp_path / "net.onnx", x)), "net").graph
    assert Interpreter(graph).run(np.array([[-8, 1, 2, 7]])).tolist() == [[1, 1, 2, 2]]
