"""Programs: found, new enough, watched while they run; and they never outlive the command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from flow import tools
from flow.errors import ToolFailed, ToolMissing

ROOT = Path(__file__).resolve().parents[2]

# The signal comes at the worst moment: the program runs, and nobody has its handle yet.
SCRIPT = """
import os, signal, subprocess
from pathlib import Path
from flow import tools
popen, made = subprocess.Popen, []
def interrupted(*args, **kwargs):
    made.append(popen(*args, **kwargs))
    os.kill(os.getpid(), signal.SIGINT)
    return made[0]
subprocess.Popen = interrupted
try:
    tools.run(["sleep", "60"], Path("."), Path("log"))
except KeyboardInterrupt:
    print("stopped", made[0].poll())
"""


def test_a_signal_while_a_program_starts_leaves_none_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "stopped -9\n", done.stderr


def program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


# pytest's own distribution stands for a wheel: its console script is there wherever tests run.
TOOL = tools.Tool(
    "a-tool",
    "A_TOOL",
    ("--version",),
    "nothing",
    "pip install it",
    minimum="1.10",
    wheel="pytest",
    script="pytest",
)


def test_a_program_that_is_new_enough_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path / "bin", "a-tool", "echo a-tool 1.10.2")
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    assert tools.find(TOOL) == tools.require(TOOL) == path
    assert tools.version(TOOL) == "1.10.2"
    assert tools.passed_over(TOOL) is None


@pytest.mark.parametrize("printed", ["echo a-tool 1.9.9", "exit 1"])
def test_a_wheel_stands_in_for_a_program_that_is_too_old(
    printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path / "bin", "a-tool", printed)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    found = tools.find(TOOL)
    assert found is not None and found.name == "pytest"
    assert tools.version(TOOL) == metadata.version("pytest")
    said = tools.passed_over(TOOL)
    assert said is not None and said.startswith(f"{path} is ")
    assert said.endswith("older than 1.10: that of the package pytest is used")
    monkeypatch.setenv("A_TOOL", str(path))  # named by the user: no other is taken
    with pytest.raises(ToolMissing, match=r"a-tool is .*, and at least 1\.10 is needed"):
        tools.require(TOOL)


def test_a_wheel_stands_in_for_a_program_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("A_TOOL", raising=False)
    assert tools.find(TOOL) is not None and tools.passed_over(TOOL) is None
    monkeypatch.setenv("A_TOOL", "/nowhere/a-tool")
    assert tools.find(TOOL) is None


def test_how_much_memory_a_program_took(tmp_path: Path) -> None:
    """Also where this process holds more than the program: it is not counted as the program's."""
    log, held = tmp_path / "log", 200 << 20
    script = f"import time; held = bytearray({held}); time.sleep(0.5)"
    large = tools.run([sys.executable, "-c", script], tmp_path, log)
    assert large.peak_bytes is not None and held < large.peak_bytes < held + (100 << 20)
    ours = bytearray(3 * held)
    small = tools.run([sys.executable, "-c", "import time; time.sleep(0.5)"], tmp_path, log)
    assert small.peak_bytes is not None and 1 << 20 < small.peak_bytes < held
    assert len(ours) == 3 * held


def test_a_program_under_way_can_be_watched(tmp_path: Path) -> None:
    seen: list[float] = []
    ran = tools.run(["sleep", "0.7"], tmp_path, tmp_path / "log", seen.append)
    assert len(seen) >= 2 and seen == sorted(seen) and seen[-1] <= ran.seconds
    assert 0.7 <= ran.seconds


def test_a_watcher_that_fails_leaves_no_program_behind(tmp_path: Path) -> None:
    def fails(seconds: float) -> None:
        raise RuntimeError("no")

    with tools.Programs() as programs:
        running = programs.start(["sleep", "60"], tmp_path, tmp_path / "log")
        with pytest.raises(RuntimeError):
            running.wait(fails)
        assert running.ended()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo 'what():  std::bad_alloc'; exit 3", "ran out of memory"),
        ("echo 'ERROR: no'; exit 3", r"failed \(exit 3\)"),
        ("kill -TERM $$", "was ended by SIGTERM"),
    ],
)
def test_why_a_program_stopped(text: str, message: str, tmp_path: Path) -> None:
    path = program(tmp_path, "stops", text)
    with pytest.raises(ToolFailed, match=f"stops {message}"):
        tools.run([str(path)], tmp_path, tmp_path / "log")


def test_work_aside_is_done_when_the_block_is(tmp_path: Path) -> None:
    with tools.Aside() as aside:
        slow = aside.start(lambda: tools.run(["sleep", "0.3"], tmp_path, tmp_path / "log"))
        quick = aside.start(lambda: 3)
        assert not slow.done()
    assert slow.result().seconds >= 0.3 and quick.result() == 3


def test_processors_are_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `taskset` and containers allow; macOS cannot tell."""
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1, 5}, raising=False)
    assert tools.processors() == 2
    monkeypatch.delattr("os.sched_getaffinity")
    assert tools.processors() == 8


def test_work_aside_leaves_the_block_a_processor_while_it_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 2, 3, 7}, raising=False)
    seen = [tools.processors()]

    def twice() -> None:
        seen.append(tools.processors())
        while aside.beside_others:
            time.sleep(0.001)
        seen.append(tools.processors())

    with tools.Aside() as aside:
        waited = aside.start(twice)
        while len(seen) < 2:
            time.sleep(0.001)
    waited.result()
    assert seen == [4, 3, 4]


def test_an_error_aside_is_raised_when_the_block_ends(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="false failed"), tools.Aside() as aside:
        aside.start(lambda: tools.run(["false"], tmp_path, tmp_path / "log"))


def test_an_error_of_the_block_stops_the_programs_aside(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; exec sleep 60"

    def interrupted() -> None:
        with tools.Aside() as aside:
            aside.start(lambda: tools.run(["sh", "-c", script], tmp_path, tmp_path / "log"))
            while not (tmp_path / "pid").is_file():
                time.sleep(0.01)
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - begun < 30
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
