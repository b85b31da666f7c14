"""Vectors through a board, over its serial line, against the outputs that they must give.

    python run_uart.py /dev/ttyUSB0             # every vector of vectors.npz
    python run_uart.py /dev/ttyUSB0 --count 10  # the first ten

It needs numpy, and Linux or macOS, whose own serial lines it uses. rtl/io.json and vectors.npz lie
beside this file. One input goes at a time, so that a byte that the line loses costs an answer and
shifts no other: an input that is not answered in time is sent again, after a silence in which the
board forgets what it has in part, and that is told. An answer that is wrong is not asked for again.

Exit codes: 0 all outputs are as they must be, 4 some are not, 1 the board does not answer,
2 wrong use.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import sys
import termios
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRIES = 3  # of one input


class NoAnswer(Exception):
    """The board is silent."""


class Board:
    """A board at a serial line; `places` is what io.json says. To be closed."""

    def __init__(self, line: str, places: dict[str, Any], seconds: float = 1.0):
        """Raises OSError where the line cannot be opened, ValueError where it has no such rate."""
        self.places, self.seconds, self.repeated = places, seconds, 0
        uart = places["uart"]
        self._quiet = uart["quiet seconds"]
        rate = getattr(termios, f"B{uart['baud']}", None)
        if rate is None:
            raise ValueError(f"serial lines of this system have no rate of {uart['baud']} baud")
        self._line = os.open(line, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            mode = termios.tcgetattr(self._line)
        except termios.error as error:
            os.close(self._line)
            raise OSError(f"{line} is no serial line") from error
        mode[0], mode[1], mode[3] = 0, 0, 0  # bytes as they are, no flow control
        mode[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
        mode[4] = mode[5] = rate
        termios.tcsetattr(self._line, termios.TCSANOW, mode)

    def close(self) -> None:
        os.close(self._line)

    def run(self, codes: NDArray[Any], expected: NDArray[Any] | None = None) -> NDArray[np.int64]:
        """Input codes (n, *shape) to output codes (n, *shape). After an answer that is not the one
        `expected` there is a silence, so that the line cannot spoil the next too.

        Raises:
            NoAnswer: an input was sent several times, and not answered.
        """
        port = self.places["output"]
        outputs = np.zeros((len(codes), *port["shape"]), dtype=np.int64)
        self._silence()
        for number, content in enumerate(packed(codes, self.places["input"])):
            answer = self._asked(number, content.tobytes())
            outputs[number] = unpacked(np.frombuffer(answer, dtype=np.uint8)[None], port)[0]
            if expected is not None and not np.array_equal(outputs[number], expected[number]):
                self._silence()
        return outputs

    def _asked(self, number: int, content: bytes) -> bytes:
        """The answer to one input."""
        size = self.places["output"]["bytes"]
        for _ in range(TRIES):
            self._write(content)
            answer = self._read(size)
            if len(answer) == size:
                return answer
            self.repeated += 1
            self._silence()
        raise NoAnswer(
            f"input {number} was sent {TRIES} times, and {len(answer)} bytes of {size} came"
        )

    def _silence(self) -> None:
        """Let the board forget what it has in part, and drop what it sent meanwhile."""
        time.sleep(2 * self._quiet)
        while select.select([self._line], [], [], self._quiet)[0]:
            if not os.read(self._line, 4096):
                raise NoAnswer("the serial line was closed at its other end")

    def _write(self, content: bytes) -> None:
        end = time.monotonic() + self.seconds
        while content:
            if not select.select([], [self._line], [], max(end - time.monotonic(), 0))[1]:
                raise NoAnswer("the serial line takes no more bytes")
            content = content[os.write(self._line, content) :]

    def _read(self, size: int) -> bytes:
        """`size` bytes, or those that came until there were none for a while."""
        found = b""
        while len(found) < size and select.select([self._line], [], [], self.seconds)[0]:
            more = os.read(self._line, size - len(found))
            if not more:
                raise NoAnswer("the serial line was closed at its other end")
            found += more
        return found


def packed(codes: NDArray[Any], port: dict[str, Any]) -> NDArray[np.uint8]:
    """Codes (n, ...) as bytes (n, bytes), as io.json says."""
    flat = np.asarray(codes, dtype=np.int64).reshape(len(codes), -1, 1)
    bits = (flat >> np.arange(port["bits"])) & 1
    return np.packbits(bits.reshape(len(codes), -1).astype(np.uint8), axis=1, bitorder="little")


def unpacked(data: NDArray[np.uint8], port: dict[str, Any]) -> NDArray[np.int64]:
    """Bytes (n, bytes) as codes (n, *shape)."""
    count = int(np.prod(port["shape"]))
    bits = np.unpackbits(data, axis=1, count=count * port["bits"], bitorder="little")
    places = bits.reshape(len(data), count, -1).astype(np.int64) << np.arange(port["bits"])
    codes: NDArray[np.int64] = places.sum(axis=2)
    if port["signed"]:
        codes -= (codes >> (port["bits"] - 1)) << port["bits"]
    return codes.reshape(len(data), *port["shape"])


def main() -> int:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="vectors through a board, over its serial line")
    parser.add_argument("line", help="the serial line, such as /dev/ttyUSB0")
    parser.add_argument("--count", type=int, help="how many vectors; all by default")
    parser.add_argument("--folder", type=Path, default=here, help="the artifact")
    parser.add_argument("--seconds", type=float, default=1.0, help="to wait for an answer")
    given = parser.parse_args()
    try:
        places = json.loads((given.folder / "rtl" / "io.json").read_text())
        with np.load(given.folder / "vectors.npz") as vectors:
            inputs, expected = vectors["inputs"][: given.count], vectors["expected"][: given.count]
        board = Board(given.line, places, given.seconds)
    except (OSError, ValueError, KeyError) as error:
        print(f"run_uart.py: {error}", file=sys.stderr)
        return 2
    with contextlib.closing(board):
        try:
            found = board.run(inputs, expected)
        except (NoAnswer, OSError) as error:
            print(f"run_uart.py: no answer: {error}", file=sys.stderr)
            return 1
    wrong = np.flatnonzero((found != expected).reshape(len(found), -1).any(axis=1))
    if board.repeated:
        print(f"{board.repeated} times an input was not answered, and was sent again")
    print(f"{len(found) - len(wrong)} of {len(found)} vectors match, {len(wrong)} do not")
    for vector in wrong[:10]:
        print(f"vector {vector}: {found[vector].tolist()}, not {expected[vector].tolist()}")
    return 4 if len(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
