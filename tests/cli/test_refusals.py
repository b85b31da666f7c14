"""Wrong names, wrong options, wrong files, wrong places: one message, the right exit code, and
nothing left in the runs folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.cli.support import (
    Done,
    Network,
    assert_refused,
    bitwright,
    compiling,
    environment,
    left_behind,
    mlp,
    script,
)

RUNS = Path("reports/runs")
Run = Callable[..., Done]


def assert_nothing_left() -> None:
    assert left_behind(RUNS) == []
    assert not RUNS.exists() or list(RUNS.iterdir()) == []


# Names and options ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("digits_mpl", "hls4ml", ""), ["unknown model 'digits_mpl'", "did you mean 'digits_mlp'"]),
        (("", "hls4ml", ""), ["unknown model ''", "valid: ad_autoencoder"]),
        (("digits_mlp", "hls4all", ""), ["unknown target 'hls4all'", "valid: analog, hls4ml"]),
        (("digits_mlp", "hls4ml", "epoch=3"), ["unknown option 'epoch'", "did you mean 'epochs'"]),
        (("digits_mlp", "hls4ml", "name=x"), ["unknown option 'name'"]),
        (("digits_mlp", "hls4ml", "overrides=x"), ["unknown option 'overrides'"]),
        (("digits_mlp", "hls4ml", "fc9.weight_bits=3"), ["unknown layer 'fc9'", "fc1, fc2, fc3"]),
        (("digits_mlp", "hls4ml", "fc9.reuse_factor=3"), ["unknown layer 'fc9'", "fc1, fc2, fc3"]),
        (("digits_mlp", "hls4ml", ".weight_bits=3"), ["unknown layer ''"]),
        (("digits_mlp", "hls4ml", "fc1.reuse=3"), ["unknown layer option 'reuse'", "weight_bits"]),
        (("digits_mlp", "hls4ml", "fc1.=3"), ["unknown layer option ''"]),
        (("digits_mlp", "hls4ml", "epochs=three"), ["epochs", "whole number", "'three'"]),
        (("digits_mlp", "hls4ml", "epochs=0"), ["epochs must be from 1 to 10000, not 0"]),
        (("digits_mlp", "hls4ml", f"epochs={10**30}"), ["epochs must be from 1 to 10000"]),
        (("digits_mlp", "hls4ml", "clock_ns=nan"), ["clock_ns must be a finite number"]),
        (("digits_mlp", "hls4ml", "io_type=x"), ["io_type must be one of io_parallel, io_stream"]),
        (("digits_mlp", "hls4ml", "synthesize=maybe"), ["synthesize must be true or false"]),
        (("digits_mlp", "hls4ml", "part=;reboot"), ["part must be a device name", "';reboot'"]),
        (("digits_mlp", "hls4ml", "fc1.weight_bits=1"), ["fc1.weight_bits must be from 2 to 16"]),
        (("digits_mlp", "hls4ml", "fc1.reuse_factor=0"), ["reuse_factor must be from 1"]),
        (("digits_mlp", "hls4ml", "epochs"), ["'epochs' must be of the form key=value"]),
        (("digits_mlp", "hls4ml", "epochs="), ["'epochs=' must be of the form key=value"]),
        (("digits_mlp", "hls4ml", "=3"), ["'=3' must be of the form key=value"]),
        (("digits_mlp", "hls4ml", "epochs = 3"), ["must be of the form key=value"]),
        (("digits_mlp", "hls4ml", "epochs=1 epochs=2"), ["'epochs' is given twice"]),
    ],
    ids=lambda value: "-".join(value)[-24:],
)
def test_wrong_names_and_options(
    run_here: Run, args: tuple[str, str, str], says: list[str]
) -> None:
    model, target, opts = args
    done = run_here("compile", "--model", model, "--target", target, "--opts", opts)
    assert_refused(done, 2, *says)
    assert_nothing_left()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("experiment", "daq"), ["unknown experiment 'daq'", "daq_vs_ste", "bwn_vs_xnor"]),
        (("experiment", ""), ["unknown experiment ''", "valid: "]),
        (("pareto", "digits"), ["unknown model 'digits'", "digits_cnn"]),
        (("pareto", "digits_cnn", "--accuracy", "97%"), ["ACCURACY must be percent", "'97%'"]),
        (("pareto", "digits_cnn", "--accuracy", "nan"), ["ACCURACY must be percent", "'nan'"]),
        (("pareto", "digits_cnn", "--accuracy", "101"), ["from 0 to 100, not '101'"]),
        (("pareto", "digits_cnn", "--uniform", "1"), ["weight_bits must be from 2 to 16"]),
        (("pareto", "digits_cnn", "--weights", "-1"), ["bops_weight must be from 0 to 100"]),
        (("pareto", "digits_cnn", "--seeds", "0"), ["--seeds must be from 1 to 100, not 0"]),
    ],
    ids=lambda value: "-".join(value)[-24:],
)
def test_wrong_experiments_and_searches(
    run_here: Run, args: tuple[str, ...], says: list[str]
) -> None:
    assert_refused(run_here(*args), 2, *says)
    assert_nothing_left()


def test_options_of_training_do_not_go_with_a_file(run_here: Run) -> None:
    mlp().save(Path("m.onnx"))
    assert_refused(
        run_here(*compiling("m.onnx", "--opts", "epochs=3")), 2, "unknown option 'epochs'"
    )
    done = run_here(*compiling("m.onnx", "--opts", "fc7.reuse_factor=2"))
    assert_refused(done, 2, "unknown layer 'fc7'", "valid: fc1, fc2")
    done = run_here(*compiling("m.onnx", "--opts", "strategy=resource fc1.reuse_factor=7"))
    assert_refused(done, 2, "fc1.reuse_factor must be one of 1, 2, 4, 20")
    assert_nothing_left()


def test_no_command_and_unknown_arguments(run_here: Run) -> None:
    assert run_here().code == 2
    assert run_here("compile").code == 2
    assert run_here("compress", "--model", "x").code == 2


# Files that are no network -------------------------------------------------------------------


def _damaged(kind: str) -> bytes:
    whole = mlp().proto().SerializeToString()
    middle = len(whole) // 2
    return {
        "random": np.random.default_rng(0).bytes(5000),
        "text": b"this is no network\n" * 20,
        "empty": b"",
        "truncated": whole[:middle],
        "truncated by a byte": whole[:-1],
        "an empty model": onnx.ModelProto().SerializeToString(),
        "names that are not UTF-8": whole.replace(b"relu1_quant", b"relu1\xff\xfe\xfdant"),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "random",
        "text",
        "empty",
        "truncated",
        "truncated by a byte",
        "an empty model",
        "names that are not UTF-8",
    ],
)
def test_files_that_are_not_onnx(run_here: Run, kind: str) -> None:
    Path("m.onnx").write_bytes(_damaged(kind))
    assert_refused(run_here(*compiling("m.onnx")), 2, "m.onnx", "ONNX file")
    assert_nothing_left()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("missing.onnx", "no such file"),
        ("folder.onnx", "is not a file"),
        ("folder.onnx/", "is not a file"),
        ("/dev/zero", "is not a file"),
        ("small.onnx/inside.onnx", "no such file"),
        (f"{'n' * 300}.onnx", "File name too long"),
    ],
)
def test_paths_that_are_no_file(run_here: Run, model: str, says: str) -> None:
    mlp().save(Path("small.onnx"))
    Path("folder.onnx").mkdir()
    assert_refused(run_here(*compiling(model)), 2, says)
    assert_nothing_left()


@pytest.mark.parametrize("seed", range(25))
def test_a_file_with_flipped_bytes_is_refused_or_compiled_but_never_crashes(
    run_here: Run, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(mlp().proto().SerializeToString())
    for where in rng.integers(0, len(content), 3):
        content[where] = rng.integers(0, 256)
    Path("m.onnx").write_bytes(content)
    # A wrong option on top: what is read without harm is not compiled here, which takes seconds.
    done = run_here(*compiling("m.onnx", "--opts", "no_such_layer.reuse_factor=1"))
    assert_refused(done, done.code)
    assert done.code in (2, 5), done


# Networks with impossible numbers ------------------------------------------------------------


def _set(name: str, value: Any) -> Network:
    net = mlp()
    net.constants = [tensor for tensor in net.constants if tensor.name != name]
    net.constant(name, np.asarray(value, np.float32))
    return net


def _with(value: float) -> list[list[float]]:
    weights = np.ones((4, 5))
    weights[2, 3] = value
    return weights.tolist()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("fc1_w", _with(np.nan), ["'fc1_w'", "NaN or infinity"]),
        ("fc2_w", _with(-np.inf), ["'fc2_w'", "NaN or infinity"]),
        ("fc1_w_scale", np.nan, ["'fc1_w_scale'", "NaN or infinity"]),
        ("inp_scale", np.inf, ["'inp_scale'", "NaN or infinity"]),
        ("fc1_w_scale", 0.0, ["fc1_w_quant", "scale must be positive"]),
        ("fc1_w_scale", [0.25, 0.25, -0.25, 0.25, 0.25], ["fc1_w_quant", "positive", "-0.25"]),
        ("relu1_quant_scale", 0.0, ["relu1_quant", "scale must be positive"]),
        ("inp_scale", -0.125, ["inp", "scale must be positive", "-0.125"]),
        ("inp_bits", 2.5, ["inp", "bit width must be a whole number"]),
        ("fc1_w_scale", [0.25, 0.25, 0.25], ["fc1_w_quant", "does not fit"]),
        ("fc1_w", np.ones((3, 5)), ["fc1", "takes 3 inputs"]),
    ],
)
def test_impossible_numbers(run_here: Run, name: str, value: Any, says: list[str]) -> None:
    _set(name, value).save(Path("m.onnx"))
    assert_refused(run_here(*compiling("m.onnx")), 2, "m.onnx", *says)
    assert_nothing_left()


def test_a_tensor_that_is_there_twice(run_here: Run) -> None:
    net = mlp()
    net.constant("fc1_w", np.ones((4, 5), np.float32))
    net.save(Path("m.onnx"))
    assert_refused(run_here(*compiling("m.onnx")), 2, "'fc1_w' is there twice")


def test_a_constant_node_with_nan(run_here: Run) -> None:
    net = mlp()
    nan = helper.make_node("Constant", [], ["shift"], name="shift", value_float=float("nan"))
    net.nodes.insert(0, nan)
    net.add("Add", "shift", name="add")
    net.save(Path("m.onnx"))
    assert_refused(run_here(*compiling("m.onnx")), 2, "'shift'", "NaN")


# Networks that cannot be lowered -------------------------------------------------------------


def test_float_weights_are_all_listed(run_here: Run) -> None:
    net = Network((4,))
    net.quant("inp", 0.125)
    net.add("MatMul", net.constant("a", np.ones((4, 5), np.float32)), name="first")
    net.add("Relu")
    net.quant("mid", 0.5)
    net.add("MatMul", net.constant("b", np.ones((5, 3), np.float32)), name="second")
    net.save(Path("m.onnx"))
    done = run_here(*compiling("m.onnx"))
    assert_refused(done, 5, "first (MatMul): its weights are float", "fix: train with quantized")
    assert_refused(done, 5, "second (MatMul): its weights are float")
    assert_nothing_left()


def test_unsupported_operations_are_all_listed(run_here: Run) -> None:
    net = mlp()
    branch = helper.make_graph(
        [], "branch", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)]
    )
    net.add("Hardmax", name="squash")
    net.add("If", name="choose", then_branch=branch, else_branch=branch)
    net.add("Attention", name="look", domain="my.ops")
    net.save(Path("m.onnx"))
    done = run_here(*compiling("m.onnx"))
    assert_refused(done, 5, "3 unsupported", "squash (Hardmax)", "choose (If)", "my.ops.Attention")
    assert done.err.count("    fix: ") == 3
    assert_nothing_left()


def test_an_unquantized_input(run_here: Run) -> None:
    net = Network((4,))
    net.add("MatMul", net.weight("w", np.ones((4, 3)), 0.25), name="fc")
    net.save(Path("m.onnx"))
    done = run_here(*compiling("m.onnx"))
    assert_refused(done, 5, "fc (MatMul)", "float input, before any quantizer", "QuantIdentity")
    assert_nothing_left()


# Programs that are not there, or fail --------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"CXX": "/nonexistent"}, "CXX=/nonexistent names no program"),
        ({"CXX": "g++ -m64"}, "one path, without arguments"),
        ({"PATH": ""}, "it is not on the PATH"),
    ],
)
@pytest.mark.parametrize("command", ["compile", "check"])
def test_a_missing_compiler_is_found_before_any_training(
    tmp_path: Path, changes: dict[str, str], says: str, command: str
) -> None:
    done = bitwright(
        command,
        *compiling("digits_mlp")[1:],
        cwd=tmp_path,
        env=environment(**changes),
    )
    assert_refused(done, 3, "g++ is needed", says, "apt-get install g++")
    assert "training" not in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_synthesizer_is_found_before_any_training(run_here: Run) -> None:
    done = run_here(*compiling("digits_mlp", "--opts", "synthesize=true backend=Vivado"))
    assert_refused(done, 3, "vivado_hls is needed", "BITWRIGHT_VIVADO_HLS")
    assert_nothing_left()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            ["echo fatal error: out of licenses >&2", "exit 1"],
            ["failed (exit 1)", "out of licenses"],
        ),
        (["kill -9 $$"], ["ended by SIGKILL", "out of memory"]),
    ],
    ids=["error", "killed"],
)
def test_a_failing_compiler(
    run_here: Run, monkeypatch: pytest.MonkeyPatch, lines: list[str], says: list[str]
) -> None:
    mlp().save(Path("m.onnx"))
    monkeypatch.setenv("CXX", str(script(Path("bin/g++").absolute(), lines)))
    assert_refused(run_here(*compiling("m.onnx")), 1, "g++", *says, "It was run as: ", "dut.cpp")
    assert_nothing_left()


def test_a_compiler_that_is_no_program(run_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    mlp().save(Path("m.onnx"))
    program = script(Path("g++").absolute(), [])
    program.write_bytes(b"\0not a program")
    monkeypatch.setenv("CXX", str(program))
    assert_refused(run_here(*compiling("m.onnx")), 1, "cannot be started: Exec format error")
    assert_nothing_left()


def test_a_compiler_that_writes_nothing(run_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    mlp().save(Path("m.onnx"))
    monkeypatch.setenv("CXX", str(script(Path("g++").absolute(), ["exit 0"])))
    done = run_here(*compiling("m.onnx"))
    assert_refused(done, 1)
    assert_nothing_left()


# Places that cannot hold an artifact ---------------------------------------------------------


@pytest.mark.parametrize("model", ["m.onnx", "digits_mlp"])
@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("file", "OUT=file is a file"),
        ("/dev/null", "OUT=/dev/null is a file"),
        ("file/below", "file/below: cannot be written"),
        ("/proc/here", "/proc/here: no folder can be made there"),
        ("/proc/here/below", "no folder can be made there"),
        ("others", "OUT=others holds other files (manifest.json, photo.png)"),
        (".", "is the folder that you are in"),
        ("..", "is the folder that you are in, one above it"),
        ("/", "is the folder that you are in, one above it"),
        ("/proc", "a mount point"),
        ("o" * 300, "File name too long"),
    ],
)
def test_impossible_output_folders(run_here: Run, model: str, out: str, says: str) -> None:
    mlp().save(Path("m.onnx"))
    Path("file").write_text("mine")
    Path("others").mkdir()
    Path("others/photo.png").write_text("mine")
    Path("others/manifest.json").write_text('{"name": "an app of mine"}')
    done = run_here(*compiling(model, "--out", out))
    assert_refused(done, 2, says)
    assert "training" not in done.err
    kept = sorted(path.name for path in Path().rglob("*"))
    assert kept == ["file", "m.onnx", "manifest.json", "others", "photo.png"]


def test_a_users_file_beside_an_artifact_is_not_removed(run_here: Run, artifact: Path) -> None:
    mlp(seed=1).save(Path("other.onnx"))
    (artifact / "notes.txt").write_text("mine")
    done = run_here(*compiling("other.onnx", "--out", "artifact"))
    assert_refused(done, 2, "OUT=artifact holds other files (notes.txt)")
    assert (artifact / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("runs", ["file", "file/below", "/proc/here"])
def test_impossible_runs_folders(run_here: Run, runs: str) -> None:
    mlp().save(Path("m.onnx"))
    Path("file").write_text("mine")
    assert_refused(run_here(*compiling("m.onnx", "--runs", runs)), 2, "another place")
    assert sorted(path.name for path in Path().rglob("*")) == ["file", "m.onnx"]
