"""Killed, interrupted, out of disk, two at once, damaged afterwards: what is there is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flow.driver
from tests.cli.conftest import SHORT, Digits
from tests.cli.support import (
    ROOT,
    Done,
    artifacts,
    assert_refused,
    bitwright,
    compiling,
    environment,
    finish,
    left_behind,
    mlp,
    programs,
    save_array,
    script,
    start,
    until,
)

RUNS = "reports/runs"


@pytest.fixture
def slow_gxx(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose g++ starts another program, which takes a minute for every file, and
    precompiles nothing."""
    lines = [
        'case "$*" in *c++-header*) exit 1;; esac',
        'case "$*" in *" -c "*) touch "$STARTED"; sleep 60; true;; esac',
        'exec g++ "$@"',
    ]
    path = script(tmp_path / "bin/slow-g++", lines)
    yield environment(CXX=str(path), STARTED=str(tmp_path / "started"))
    for process in programs(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _stopped_while_building(folder: Path, env: dict[str, str], how: signal.Signals) -> Done:
    mlp().save(folder / "m.onnx")
    process = start(*compiling("m.onnx"), cwd=folder, env=env)
    until((folder / "started").exists)
    process.send_signal(how)
    return finish(process)


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_build_clears_up(
    tmp_path: Path, slow_gxx: dict[str, str], how: signal.Signals, code: int
) -> None:
    done = _stopped_while_building(tmp_path, slow_gxx, how)
    assert done.code == code and done.out == ""
    assert "Traceback" not in done.err
    assert ("interrupted; run the same command again" in done.err) == (how is signal.SIGINT)
    assert list((tmp_path / RUNS).iterdir()) == []
    assert programs(tmp_path) == []


def test_an_interrupted_training_goes_on_later(tmp_path: Path) -> None:
    options = ("--runs", "runs", "--opts", "epochs=2 float_epochs=9999")
    process = start(*compiling("digits_mlp", *options), cwd=tmp_path)
    until(lambda: any((tmp_path / "runs").glob("models/*/checkpoint.pt")))
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code == 130 and done.out == "", done
    assert "Traceback" not in done.err and "run the same command again to go on" in done.err
    (folder,) = (tmp_path / "runs/models").iterdir()
    assert [path.name for path in folder.iterdir()] == ["checkpoint.pt"]
    assert left_behind(tmp_path / "runs") == []


def test_after_a_kill_the_next_run_succeeds(tmp_path: Path, slow_gxx: dict[str, str]) -> None:
    done = _stopped_while_building(tmp_path, slow_gxx, signal.SIGKILL)
    assert done.code == -signal.SIGKILL
    assert any(name.endswith(".part") for name in left_behind(tmp_path / RUNS))
    assert artifacts(tmp_path / RUNS) == []
    # What it left is cleared away although its compilers still run there.
    assert programs(tmp_path) != []
    again = bitwright(*compiling("m.onnx"), cwd=tmp_path)
    assert again.code == 0, again
    assert len(artifacts(tmp_path / RUNS)) == 1
    assert left_behind(tmp_path / RUNS) == []


def test_a_kill_between_the_two_renames_is_repaired(artifact: Path, tmp_path: Path) -> None:
    mlp().save(tmp_path / "small.onnx")
    artifact.rename(tmp_path / ".artifact.old")
    (tmp_path / ".artifact.part").symlink_to("nowhere")
    done = bitwright(*compiling("small.onnx", "--out", "artifact"), cwd=tmp_path)
    assert done.code == 0, done
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact", "small.onnx"]


# Out of disk ---------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size; skips the test where none may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no small file system can be mounted here (needs root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("size", ["40k", "1m", "1200k"])
def test_a_full_disk_while_compiling(tmp_path: Path, size: str) -> None:
    mlp().save(tmp_path / "m.onnx")
    with small_disk(tmp_path / "disk", size) as disk:
        done = bitwright(*compiling("m.onnx", "--runs", disk / "runs"), cwd=tmp_path)
        assert_refused(done, 1)
        assert "disk is full" in done.err or "No space left on device" in done.err
        assert list((disk / "runs").iterdir()) == []


def test_a_read_only_disk(tmp_path: Path) -> None:
    mlp().save(tmp_path / "m.onnx")
    with small_disk(tmp_path / "disk", "1m,ro") as disk:
        for place in (("--out", disk / "artifact"), ("--runs", disk / "runs")):
            done = bitwright(*compiling("m.onnx", *place), cwd=tmp_path)
            assert_refused(done, 2, "cannot be written", "Read-only file system", "another place")


@pytest.mark.parametrize("size", ["4k", "100k"])
def test_a_full_disk_while_training(tmp_path: Path, size: str) -> None:
    with small_disk(tmp_path / "disk", size) as disk:
        args = compiling("digits_mlp", "--runs", disk / "runs", "--opts", SHORT)
        done = bitwright(*args, cwd=tmp_path)
        assert_refused(done, 1, str(disk / "runs"), "the disk is full", "free some space")
        assert not any(name.endswith(".part") for name in left_behind(disk / "runs"))
        assert not list(disk.rglob("training.json"))


def test_a_full_disk_for_an_output_leaves_the_old_one(artifact: Path, tmp_path: Path) -> None:
    save_array(tmp_path / "x.npy", np.zeros((2000, 4), np.float32))
    with small_disk(tmp_path / "disk", "20k") as disk:
        save_array(disk / "y.npy", np.ones(3))
        args = ("run", "--artifact", artifact, "--input", "x.npy", "--output", disk / "y.npy")
        assert_refused(bitwright(*args, cwd=tmp_path), 1, "y.npy: the disk is full")
        assert np.load(disk / "y.npy").tolist() == [1, 1, 1]
        assert [path.name for path in disk.iterdir()] == ["y.npy"]


@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_in_the_middle(
    run_here: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    def full(*args: Any) -> None:
        raise OSError(kind, os.strerror(kind))

    mlp().save(Path("m.onnx"))
    monkeypatch.setattr(flow.driver, "write_host", full)
    assert_refused(run_here(*compiling("m.onnx")), 1, "the disk is full", "free some space")
    assert list(Path(RUNS).iterdir()) == []


def test_standard_output_that_cannot_be_written(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flow", "list"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr and done.stderr.count("\n") == 1
    reading, writing = os.pipe()
    os.close(reading)  # as `| head -0` does
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment(), check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


# Two at once ---------------------------------------------------------------------------------


def test_two_compiles_of_one_model_at_once(tmp_path: Path) -> None:
    mlp().save(tmp_path / "m.onnx")
    first = start(*compiling("m.onnx"), cwd=tmp_path)
    until(lambda: any((tmp_path / RUNS).glob(".*.part")))
    second = start(*compiling("m.onnx"), cwd=tmp_path)
    done = [finish(first), finish(second)]
    assert [one.code for one in done] == [0, 0], done
    assert "waiting" not in done[0].err
    assert "waiting for another compile of the same artifact" in done[1].err
    assert "(up to date)" in done[1].out
    assert len(artifacts(tmp_path / RUNS)) == 1
    assert left_behind(tmp_path / RUNS) == []


def test_different_options_at_once_share_one_training(digits: Digits) -> None:
    both = [digits.parallel, digits.stream]
    assert [one.code for one in both] == [0, 0], both
    assert [one.json["matches_reference"] for one in both] == [True, True]
    assert sum("training float" in one.err for one in both) == 1, both
    assert sum("waiting for another training" in one.err for one in both) == 1
    assert len(artifacts(digits.runs)) == 2
    assert len(list((digits.runs / "models").iterdir())) == 1
    assert left_behind(digits.runs) == []


def test_the_lock_lets_in_one_at_a_time(tmp_path: Path) -> None:
    """Also while its file is removed by one and opened by others."""
    count = (
        "import sys; from pathlib import Path; from flow.artifact import locked\n"
        "folder = Path(sys.argv[1]); number = folder / 'number'\n"
        "for _ in range(200):\n"
        "    with locked(folder / 'x'):\n"
        "        number.write_text(str(int(number.read_text()) + 1))\n"
    )
    (tmp_path / "number").write_text("0")
    workers = [
        subprocess.Popen([sys.executable, "-c", count, tmp_path], cwd=ROOT) for _ in range(4)
    ]
    assert [worker.wait(timeout=60) for worker in workers] == [0] * 4
    assert (tmp_path / "number").read_text() == "800"
    assert [path.name for path in tmp_path.iterdir()] == ["number"]


# Afterwards ----------------------------------------------------------------------------------


def test_a_second_compile_does_nothing(artifact: Path, tmp_path: Path) -> None:
    mlp().save(tmp_path / "small.onnx")
    before = {path: path.stat().st_mtime_ns for path in artifact.rglob("*")}
    time.sleep(0.02)
    # It needs a compiler no more than the first time, and says what it found.
    done = bitwright(*compiling("small.onnx", "--out", "artifact"), cwd=tmp_path)
    assert done.code == 0 and "(up to date)" in done.out and done.err == ""
    assert {path: path.stat().st_mtime_ns for path in artifact.rglob("*")} == before


def _shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _another_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = [
    ("graph.json", Path.unlink),
    ("graph.json", _another_byte),
    ("host.json", _another_byte),
    ("csim/csim", _another_byte),
    ("project/firmware/dut.cpp", _shorter),
    ("report.json", _shorter),
    ("vectors.npz", _another_byte),
    ("manifest.json", _shorter),
    ("manifest.json", lambda path: path.write_text("[]")),
    ("manifest.json", lambda path: path.write_text("[" * 100_000)),
    ("manifest.json", lambda path: path.write_text('{"schema": 1, "files": {}}')),
    ("manifest.json", lambda path: path.write_text('{"schema": 9, "files": {}}')),
    ("manifest.json", lambda path: path.write_text('{"schema": 1, "files": {"a\\u0000": "0"}}')),
    ("manifest.json", lambda path: path.write_text('{"schema": 1, "files": {"../x.npy": "0"}}')),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE, ids=[name for name, _ in DAMAGE])
def test_run_refuses_a_damaged_artifact(
    run_here: Callable[..., Done], artifact: Path, name: str, damage: Callable[[Path], Any]
) -> None:
    save_array(Path("x.npy"), np.ones((3, 4), np.float32))
    damage(artifact / name)
    done = run_here("run", "--artifact", "artifact", "--input", "x.npy")
    assert_refused(done, 2, "artifact", "artifact" if name == "manifest.json" else name)


@pytest.mark.parametrize("name", ["csim/csim", "report.json"])
def test_compile_repairs_a_damaged_artifact(tmp_path: Path, artifact: Path, name: str) -> None:
    mlp().save(tmp_path / "small.onnx")
    whole = (artifact / name).read_bytes()
    _another_byte(artifact / name)
    done = bitwright(*compiling("small.onnx", "--out", "artifact"), cwd=tmp_path)
    assert done.code == 0, done
    assert f"compiling again: artifact/{name} was changed or lost" in done.err
    assert (artifact / name).read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact", "small.onnx"]


def test_a_model_that_changes_during_the_compile(
    run_here: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    mlp().save(Path("m.onnx"))
    checked = flow.driver.make_vectors

    def meanwhile(*args: Any) -> Any:
        mlp(seed=1).save(Path("m.onnx"))
        return checked(*args)

    monkeypatch.setattr(flow.driver, "make_vectors", meanwhile)
    assert_refused(run_here(*compiling("m.onnx")), 2, "m.onnx was changed during the compile")
    assert list(Path(RUNS).iterdir()) == []
