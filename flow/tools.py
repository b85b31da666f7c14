"""External programs: found, version-checked and run in one place, never through a shell."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from flow.errors import ToolFailed, ToolMissing

_VERSION_SECONDS = 20


@dataclass(frozen=True)
class Tool:
    """A program: `variable` may name another path to it, `version_args` make it print its version
    (the first number with a dot is taken), `enables` and `get` are for people."""

    name: str
    variable: str
    version_args: tuple[str, ...]
    enables: str
    get: str


GXX = Tool(
    name="g++",
    variable="CXX",
    version_args=("-dumpfullversion",),
    enables="C simulation of hls4ml projects",
    get="apt-get install g++ (Debian, Ubuntu)",
)
VITIS = Tool(
    name="vitis-run",
    variable="BITWRIGHT_VITIS",
    version_args=("--version",),
    enables="synthesis of hls4ml projects for the Vitis backend",
    get="AMD Vitis 2022.2 or newer, with its settings64.sh sourced",
)
VIVADO_HLS = Tool(
    name="vivado_hls",
    variable="BITWRIGHT_VIVADO_HLS",
    version_args=("-version",),
    enables="synthesis of hls4ml projects for the Vivado backend",
    get="Xilinx Vivado HLS 2020.1, with its settings64.sh sourced",
)
TOOLS = (GXX, VITIS, VIVADO_HLS)


@dataclass(frozen=True)
class ToolRun:
    """A program that ran to its end without an error."""

    argv: tuple[str, ...]
    seconds: float
    log: Path


def find(tool: Tool) -> Path | None:
    """Where the program is, or None. A set variable that names nothing counts as not there."""
    found = shutil.which(os.environ.get(tool.variable) or tool.name)
    return Path(found).absolute() if found else None


def require(tool: Tool) -> Path:
    """Where the program is.

    Raises:
        ToolMissing: it is not there; says how to get it.
    """
    found = find(tool)
    if found is None:
        named = os.environ.get(tool.variable)
        where = f"{tool.variable}={named} names no program" if named else "it is not on the PATH"
        if named and len(named.split()) > 1:
            where += " (one path, without arguments)"
        raise ToolMissing(
            f"{tool.name} is needed for {tool.enables}, but {where}. "
            f"Get it: {tool.get}; or set {tool.variable} to its path."
        )
    return found


def version(tool: Tool) -> str | None:
    """The version that the program prints, or None if it is not there or prints none."""
    found = find(tool)
    if found is None:
        return None
    try:
        done = subprocess.run(
            [found, *tool.version_args], capture_output=True, timeout=_VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(rb"\d+(\.\d+)+", done.stdout + done.stderr)
    return match[0].decode() if match else None


class Running:
    """A program under way, its output going to a log; made by `Programs.start`."""

    def __init__(self, argv: Sequence[str], process: subprocess.Popen[bytes], log: Path):
        self._argv, self._process, self._log = tuple(argv), process, log
        self._since = time.monotonic()

    def wait(self) -> ToolRun:
        """Wait for the end.

        Raises:
            ToolFailed: it ended with an error; the end of its log is shown.
        """
        try:
            code = self._process.wait()
        except BaseException:
            self.stop()
            raise
        if code:
            raise ToolFailed(
                f"{Path(self._argv[0]).name} {_end(code)}. The end of its output:\n"
                f"{_tail(self._log)}\nIt was run as: {shlex.join(self._argv)}"
            )
        return ToolRun(self._argv, time.monotonic() - self._since, self._log)

    def stop(self) -> None:
        """End the program and everything it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Programs:
    """Programs that run side by side; whatever still runs when the block ends is stopped.

    A signal that arrives while a program is being started waits until it is known here: otherwise
    an interrupted command could leave a program behind.
    """

    def __init__(self) -> None:
        self._running: list[Running] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for running in self._running:
            running.stop()

    def start(self, argv: Sequence[str], cwd: Path, log: Path) -> Running:
        """Start the program argv[0] in `cwd`, its output to `log`.

        Raises:
            ToolFailed: it cannot be started.
        """
        with log.open("wb") as output, _signals_wait():
            try:
                process = subprocess.Popen(
                    argv,
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # so that `stop` reaches its children too
                )
            except OSError as error:
                raise ToolFailed(f"{argv[0]} cannot be started: {error.strerror}") from error
            self._running.append(Running(argv, process, log))
        return self._running[-1]


def run(argv: Sequence[str], cwd: Path, log: Path) -> ToolRun:
    """Run a program to its end; see `Programs.start` and `Running.wait`."""
    with Programs() as programs:
        return programs.start(argv, cwd, log).wait()


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals that Python handles are handled when the block is over."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    came: list[int] = []
    kept = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    handled = {n: handler for n, handler in kept.items() if callable(handler)}
    for number in handled:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
        for arrived in came:
            signal.raise_signal(arrived)


def _end(code: int) -> str:
    if code >= 0:
        return f"failed (exit {code})"
    name = signal.Signals(-code).name
    memory = "; the machine may be out of memory" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{memory}"


def _tail(log: Path, lines: int = 15) -> str:
    text = log.read_bytes()[-8192:].decode("utf-8", "replace") or "(nothing)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
