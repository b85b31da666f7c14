"""The serial line: the host's script talks to the simulated pins through a pseudo-terminal, over
lines that are good and over lines that are not. The networks are written by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.errors import UsageError
from flow.tools import VVP, require, run
from targets.rtl import iverilog, uart, uart_snippet
from targets.rtl.ports import Port, Ports
from targets.rtl.stream import stream
from targets.rtl.uart import Serial
from targets.rtl.uart_snippet import Board, NoAnswer
from tests.targets.test_rtl_simulation import ICARUS, WIDE

SERIAL = Serial(940_000, 115_200, 400)  # 8 cycles of a bit, which makes 117,500 baud: 2 % more
SECONDS = 20.0  # a machine that is busy may simulate slowly


def places(ports: Ports) -> dict[str, Any]:
    serial = {**SERIAL.to_json(), "quiet seconds": 0.1}  # a simulated silence is over sooner
    return {"input": ports.inputs.to_json(), "output": ports.outputs.to_json(), "uart": serial}


def built(folder: Path, wrong: tuple[str, str] = ("", "")) -> Path:
    """The pins' simulation; of a uart.v in which `wrong` is replaced."""
    folder.mkdir(exist_ok=True)
    text = SERIAL.verilog()
    assert wrong[0] in text
    (folder / "uart.v").write_text(text.replace(*wrong))
    (folder / "stream.v").write_text(stream(WIDE.ports, WIDE.latency))
    (folder / "network.v").write_text(WIDE.verilog())
    return SERIAL.build(folder, ("uart.v", "stream.v", "network.v"))


@pytest.fixture(scope="module")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("pins"))


def answered(
    pins: Path, faults: Sequence[str], folder: Path, seconds: float = SECONDS
) -> tuple[list[int], int]:
    """Which vectors were not answered rightly, and how often one was sent again."""
    codes, expected = WIDE.codes(), WIDE.expected(WIDE.codes())
    with (
        uart.line(pins, folder / "log", faults) as path,
        closing(Board(path, places(WIDE.ports), seconds)) as board,
    ):
        found = board.run(codes, expected)
        return np.flatnonzero((found != expected).any(axis=1)).tolist(), board.repeated


@pytest.mark.parametrize("drift", [-2, 0, 2])
def test_every_vector_through_the_line(pins: Path, drift: float, tmp_path: Path) -> None:
    """The far end's bits are so much longer, in %, than those of its rate; the hardware's are 2 %
    shorter."""
    assert answered(pins, [f"drift={drift}"], tmp_path) == ([], 0)


@pytest.mark.parametrize(
    ("faults", "wrong", "repeated"),
    [
        (["lose=31"], [], 1),
        (["garble=31"], [], 1),
        (["pause=31", "bits=2000"], [], 1),
        # It cannot be told from a good one: its answer is wrong, and no other.
        (["add=31"], [10], 0),
    ],
)
def test_a_byte_that_is_lost_damaged_late_or_doubled(
    faults: list[str], wrong: list[int], repeated: int, pins: Path, tmp_path: Path
) -> None:
    """The second byte of input 10. All else is answered rightly."""
    assert answered(pins, faults, tmp_path, seconds=3.0) == (wrong, repeated)


def flooded(pins: Path, folder: Path) -> tuple[bytes, bytes, list[int]]:
    """What comes of a host that sends all inputs without waiting, what should; and which of all
    vectors are wrong when they go, after that, as they should."""
    codes, expected = WIDE.codes(), WIDE.expected(WIDE.codes())
    ports = places(WIDE.ports)
    with (
        uart.line(pins, folder / "log") as path,
        closing(Board(path, ports, SECONDS)) as board,
    ):
        board._silence()
        board._write(uart_snippet.packed(codes, ports["input"]).tobytes())
        board.seconds = 1.0
        came = board._read(10_000)
        board.seconds = SECONDS
        found = board.run(codes)
    all_of_it = uart_snippet.packed(expected, ports["output"]).tobytes()
    return came, all_of_it, np.flatnonzero((found != expected).any(axis=1)).tolist()


def test_a_host_that_sends_too_fast_gets_right_answers_and_then_none(
    pins: Path, tmp_path: Path
) -> None:
    """Outputs are longer than inputs: there is no room for all."""
    came, meant, wrong = flooded(pins, tmp_path)
    assert meant.startswith(came) and 10 <= len(came) < len(meant)
    assert wrong == []


def test_without_that_rule_answers_would_be_wrong(tmp_path: Path) -> None:
    """A negative control of the one before."""
    came, meant, _ = flooded(built(tmp_path, (" || (in_valid && !in_ready)", "")), tmp_path)
    assert not meant.startswith(came)


def script(folder: Path, path: str, *more: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(Path(uart_snippet.__file__)), path, "--folder", str(folder), *more]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120)


def test_the_script_on_the_command_line(pins: Path, tmp_path: Path) -> None:
    (tmp_path / "rtl").mkdir()
    (tmp_path / "rtl" / "io.json").write_text(json.dumps(places(WIDE.ports)))
    codes, expected = WIDE.codes(), WIDE.expected(WIDE.codes())

    def vectors(wrong: int) -> None:
        changed = expected.copy()
        changed[:wrong, 1] ^= 1
        np.savez(tmp_path / "vectors.npz", inputs=codes, expected=changed)

    vectors(0)
    with uart.line(pins, tmp_path / "log", ["lose=4"]) as path:
        done = script(tmp_path, path)
        assert done.returncode == 0, done.stderr
        assert "1 times an input was not answered" in done.stdout
        assert "30 of 30 vectors match, 0 do not" in done.stdout
    vectors(2)
    with uart.line(pins, tmp_path / "log") as path:
        done = script(tmp_path, path, "--count", "9")
        assert done.returncode == 4
        assert "7 of 9 vectors match, 2 do not\nvector 0: [" in done.stdout
    other = tmp_path / "tty"
    other.write_text("")
    for line, code, message in (
        (str(tmp_path / "none"), 2, "No such file"),
        (str(other), 2, "is no serial line"),
    ):
        done = script(tmp_path, line)
        assert (done.returncode, done.stdout) == (code, "") and message in done.stderr


def test_a_board_that_is_silent(tmp_path: Path) -> None:
    near, far = os.openpty()
    try:
        with closing(Board(os.ttyname(far), places(WIDE.ports), 0.05)) as board:
            with pytest.raises(NoAnswer, match="input 0 was sent 3 times, and 0 bytes of 5 came"):
                board.run(WIDE.codes())
    finally:
        os.close(near)
        os.close(far)


def test_packing_is_that_of_the_ports() -> None:
    ports, codes = places(WIDE.ports), WIDE.codes()
    assert np.array_equal(uart_snippet.packed(codes, ports["input"]), WIDE.ports.inputs.pack(codes))
    outputs = WIDE.expected(codes)
    signed = Port((2,), 18, True)
    for port in (WIDE.ports.outputs, signed):
        for many in (outputs, outputs - (port.signed << 17)):
            if port.signed or many.min() >= 0:
                again = uart_snippet.unpacked(port.pack(many), port.to_json())
                assert np.array_equal(again, many)


@pytest.mark.parametrize(
    ("mhz", "baud", "message"),
    [
        (48, 115201, "baud must be one of 9600, .*, not 115201"),
        (1, 230400, r"baud must be at most clock_mhz / 8, .* a bit would be 4 cycles of 1 MHz"),
        (1, 115200, r"1 MHz makes 111111 of 115200 baud, which is off by 3\.5%"),
    ],
)
def test_rates_that_cannot_be_made_are_refused(mhz: float, baud: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Serial.of(mhz, baud)


def test_a_rate() -> None:
    made = Serial.of(48, 115200)
    assert (made.clocks, made.quiet) == (417, 11520)
    assert abs(made.error) < 1e-3
    assert made.to_json()["quiet seconds"] == 0.1


BENCH = """
module bench;
  reg clk = 0, rx = 1;
  always #1 clk = !clk;
  wire tx;
  network_uart uart (.clk(clk), .rx(rx), .tx(tx));
  reg [23:0] sent;
  integer i, j;
  initial begin
    sent = 24'd@SENT@;
    repeat (50) @(posedge clk);
    for (i = 0; i < 3; i = i + 1) begin
      rx = 0;
      repeat (8) @(posedge clk);
      for (j = 0; j < 8; j = j + 1) begin
        rx = sent[8*i + j];
        repeat (8) @(posedge clk);
      end
      rx = 1;
      repeat (8) @(posedge clk);
    end
  end
  reg [7:0] byte_;
  integer k, n;
  initial #20000 $finish(0);
  initial begin
    repeat (20) @(posedge clk);
    for (n = 0; n < 5; n = n + 1) begin
      wait (tx !== 1);
      repeat (12) @(posedge clk);
      for (k = 0; k < 8; k = k + 1) begin
        byte_[k] = tx;
        repeat (8) @(posedge clk);
      end
      $display("%b", byte_);
      wait (tx === 1);
    end
    $finish(0);
  end
endmodule
"""


@ICARUS
def test_it_needs_no_reset(tmp_path: Path) -> None:
    """In a simulator whose registers are undefined until something is put into them."""
    code = 0x1A5C3E & ((1 << WIDE.bits) - 1)
    (tmp_path / "bench.v").write_text(BENCH.replace("@SENT@", str(code)))
    (tmp_path / "uart.v").write_text(SERIAL.verilog())
    (tmp_path / "stream.v").write_text(stream(WIDE.ports, WIDE.latency))
    (tmp_path / "network.v").write_text(WIDE.verilog())
    sources = ("bench.v", "uart.v", "stream.v", "network.v")
    program = iverilog.build(tmp_path, sources, "bench")
    done = run([str(require(VVP)), "-n", program.name], tmp_path, tmp_path / "log")
    meant = WIDE.ports.outputs.pack(WIDE.expected(np.array([[code]])))[0]
    assert done.log.read_text().split() == [f"{byte:08b}" for byte in meant]
