"""The byte stream behind a serial line, as Verilog, and its pins in a simulation."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any

from flow.errors import FlowError, Mismatch, UsageError
from flow.ops import IntArray
from flow.tools import Programs
from targets.rtl import verilator
from targets.rtl.ports import Ports
from targets.rtl.simulation import Beside
from targets.rtl.stream import filled

MODULE = "network_uart"
FOLDER = "serial"  # of the pins' simulation
RATES = (
    *(9600, 19200, 38400, 57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000),
    *(1152000, 1500000, 2000000, 2500000, 3000000, 3500000, 4000000),
)  # that serial lines of Linux have
_LEAST_CLOCKS = 8  # of a bit: its middle is found within one of them
_MOST_ERROR = 0.02  # of the rate: at 10 bits, and as much at the far end, half a bit is not reached
_QUIET_SECONDS = 0.1  # longer than a computer pauses while it sends an input
_START_SECONDS = 30.0
_ANSWER_SECONDS = 300.0  # simulated lines are slower than real ones
_CYCLES = 1_000_000  # of a simulation


class Wrapper(Enum):
    """What the top module has as ports: the bytes with valid and ready, or a serial line."""

    STREAM = "stream"
    UART = "uart"


@dataclass(frozen=True)
class Serial:
    """A serial line of hardware with this clock; `quiet` bits of silence begin all anew."""

    clock_hz: int
    baud: int
    quiet: int

    @classmethod
    def of(cls, clock_mhz: float, baud: int) -> Serial:
        """Raises UsageError where the clock cannot make the rate, or no serial line has it."""
        if baud not in RATES:
            raise UsageError(f"option baud must be one of {', '.join(map(str, RATES))}, not {baud}")
        made = cls(round(clock_mhz * 1e6), baud, round(_QUIET_SECONDS * baud))
        if made.clocks < _LEAST_CLOCKS:
            raise UsageError(
                f"option baud must be at most clock_mhz / {_LEAST_CLOCKS}, not {baud}: a bit would "
                f"be {made.clocks} cycles of {clock_mhz:g} MHz"
            )
        if abs(made.error) > _MOST_ERROR:
            raise UsageError(
                f"option baud: {clock_mhz:g} MHz makes {made.clock_hz / made.clocks:.0f} of {baud} "
                f"baud, which is off by {abs(made.error):.1%}; at most {_MOST_ERROR:.0%} is read "
                f"safely: choose another baud or clock_mhz"
            )
        return made

    @property
    def clocks(self) -> int:
        """Cycles of one bit."""
        return (self.clock_hz + self.baud // 2) // self.baud

    @property
    def error(self) -> float:
        """Of the rate, as a share of it."""
        return self.clock_hz / self.clocks / self.baud - 1

    def verilog(self) -> str:
        """uart.v."""
        return filled("uart.v", self._values())

    def to_json(self) -> dict[str, Any]:
        """What a host must know."""
        return {
            "baud": self.baud,
            "clocks per bit": self.clocks,
            "clock hertz": self.clock_hz,
            "quiet seconds": self.quiet / self.baud,
        }

    def build(self, home: Path, sources: Sequence[str], *options: str) -> Path:
        """The simulation of the pins in the folder `home`, of Verilog `sources`, names from there;
        gives what `through` takes.

        Raises:
            ToolMissing, ToolFailed: Verilator or g++ is not there, or fails.
        """
        (home / "uart.cpp").write_text(filled("uart.cpp", self._values()))
        return verilator.build(home, sources, MODULE, "uart.cpp", *options)

    def _values(self) -> dict[str, int]:
        return {"CLOCK_HZ": self.clock_hz, "BAUD": self.baud, "QUIET": self.quiet}


@contextmanager
def line(program: Path, log: Path, faults: Sequence[str] = ()) -> Iterator[str]:
    """A simulated board at a pseudo-terminal, whose name this gives, as long as the block lasts.
    `faults` are what happens to bytes on their way: see uart.cpp.

    Raises:
        ToolFailed, FlowError: the simulation does not start.
    """
    with Programs() as programs:
        running = programs.start([str(program.resolve()), *faults], log.parent, log)
        end = time.monotonic() + _START_SECONDS
        while "\n" not in (text := log.read_text()):
            if running.ended():
                running.wait()
            if running.ended() or time.monotonic() > end:
                raise FlowError(f"the simulated serial line did not say where it is, but: {text}")
            time.sleep(0.01)
        yield text.splitlines()[0]


def write(folder: Path, serial: Serial) -> None:
    """The line's Verilog and the script for boards, into an artifact."""
    (folder / "rtl" / "uart.v").write_text(serial.verilog())
    script = resources.files("targets.rtl") / "uart_snippet.py"
    (folder / "run_uart.py").write_text(script.read_text())


def build(folder: Path, serial: Serial) -> None:
    """The simulation of the pins, in an artifact that `write` wrote into.

    Raises:
        ToolMissing, ToolFailed: Verilator or g++ is not there, or fails.
    """
    home = folder / FOLDER
    home.mkdir()
    serial.build(home, [f"../rtl/{name}" for name in ("uart.v", "stream.v", "network.v")])


def described(ports: Ports, serial: Serial) -> dict[str, Any]:
    """What of io.json the host's script reads."""
    return {
        "input": ports.inputs.to_json(),
        "output": ports.outputs.to_json(),
        "uart": serial.to_json(),
    }


def beside(
    home: Path,
    ports: Ports,
    serial: Serial,
    what: str = "the hardware behind its serial line",
    sample: int | None = None,
) -> Beside:
    """The pins that `Serial.build` left in `home`, to run by the very script that talks to boards;
    as many vectors as take a million cycles, where no other `sample` is given."""
    each = 10 * serial.clocks * (ports.inputs.bytes + ports.outputs.bytes)
    many = max(_CYCLES // each, 1) if sample is None else sample
    return Beside(what, many, lambda codes: through(home / MODULE, described(ports, serial), codes))


def through(program: Path, places: dict[str, Any], codes: IntArray) -> IntArray:
    """Input codes through the simulated pins to output codes.

    Raises:
        ToolFailed, FlowError: the simulation does not start.
        Mismatch: the hardware does not answer every input at once.
    """
    from targets.rtl.uart_snippet import Board, NoAnswer  # which needs a system with serial lines

    with (
        tempfile.TemporaryDirectory(prefix="bitwright-") as work,
        line(program, Path(work) / "log") as path,
        closing(Board(path, places, _ANSWER_SECONDS)) as board,
    ):
        try:
            found = board.run(codes)
        except (NoAnswer, OSError) as error:
            raise Mismatch(f"the hardware does not answer at its serial line: {error}") from error
        if board.repeated:
            raise Mismatch("the hardware did not answer every input at its serial line at once")
        return found
