"""The speed of simulated chips, nothing of which is kept from earlier runs.

First 1,000 chips of digits_mlp on phase change memory, a day old, on the test split of 397 images.
Then, where their packages are installed, the same network, images and number of chips in turns on
aihwkit's torch tile, against the device pcm without converters, and on AnalogVNN, against the
device photonic: with noise of weights alone, which are drawn once a chip, and with all that is
drawn for every product; all with one thread, by processor time.

With all of it AnalogVNN draws a normal number, of float32 as here, for each weight, input and sum,
84,000 for a chip, and a chip of ours 33,000: the noise of inputs and sums is drawn together, which
leaves their joint law as it is (`targets/analog/together.py`).

Run with `make bench SUITE=analog`; medians of the rounds are compared with the limits.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 5
CHIPS = 1000
LIMIT_SECONDS = 2.0
PEER_CHIPS = 64  # of a round, each
PEER_LIMITS = {"aihwkit": 0.35, "analogvnn": 0.2}  # of its time for a chip
EXTRAS = {"aihwkit": "aihwkit", "analogvnn": "photonic"}
DAY_S = 86_400.0


class Bench:
    """digits_mlp with its test split."""

    def __init__(self) -> None:
        from flow.plan import Events, Request, Source

        self.source = Source(Request("digits_mlp", ""), Events())
        reference = self.source.reference
        assert reference is not None and reference.labels is not None
        self.labels = reference.labels
        self.codes = self.source.host.quantize(reference.x)
        self.graph = self.source.imported.graph

    def right(self, outputs: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """Which outputs are of their samples' classes."""
        found: np.ndarray = outputs.argmax(axis=1) == self.labels[samples]
        return found

    def rate(self, outputs: np.ndarray) -> float:
        """The accuracy of the test split's outputs."""
        return float(self.right(outputs, np.arange(len(self.labels))).mean())


def main() -> int:
    """Prints tables; 1 where something takes longer than its limit."""
    bench = Bench()
    missed = _alone(bench)
    missed |= _beside(bench, "aihwkit", "programming, drift, reading", _aihwkit)
    missed |= _beside(bench, "analogvnn", "weights", _analogvnn_weights)
    missed |= _beside(bench, "analogvnn", "weights, inputs, sums", _analogvnn)
    return int(missed)


def _alone(bench: Bench) -> bool:
    from flow.driver import compile_model
    from flow.plan import Events, Request, make_target
    from flow.target import Trial

    options = {"device": "pcm", "time_s": f"{DAY_S:g}", "chips": str(CHIPS)}
    folder = compile_model(Request("digits_mlp", "analog", options), Events()).artifact
    assert folder is not None
    target = make_target("analog").with_options(options)
    seconds, since_cpu = [], time.process_time()
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="bitwright-") as state:
            trial = Trial(bench.codes, bench.right, Path(state))
            since = time.perf_counter()
            told = target.spread(bench.graph, folder, trial)
            seconds.append(time.perf_counter() - since)
    cpu = (time.process_time() - since_cpu) / ROUNDS
    median = statistics.median(seconds)
    accuracy = told.accuracy["chips"].value
    print(f"{CHIPS} chips on {len(bench.codes)} images, mean accuracy {100 * accuracy:.2f} %")
    ends = f"{min(seconds):.2f} to {max(seconds):.2f}"
    print(f"{median:.2f} s (median of {ROUNDS}; {ends}), {cpu:.2f} s of processors")
    print(f"limit {LIMIT_SECONDS:.1f} s: {'held' if median <= LIMIT_SECONDS else 'MISSED'}")
    return median > LIMIT_SECONDS


Ours = Callable[[range], float]  # the mean accuracy of these chips
Theirs = Callable[[], float]  # the accuracy of one more chip


Make = Callable[[Bench], tuple[Ours, Theirs]]


def _beside(bench: Bench, peer: str, noise: str, make: Make) -> bool:
    """Time chips of ours and of a peer in turns."""
    from flow import packages

    if packages.version(peer) is None:
        print(f"{peer}: not compared, it is not installed: pip install 'bitwright[{EXTRAS[peer]}]'")
        return False
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            ours, theirs = make(bench)
            ours(range(2)), theirs()
            rows = [_round(ours, theirs, number) for number in range(ROUNDS)]
    finally:
        torch.set_num_threads(threads)
    own, other = (statistics.median(row[i] for row in rows) for i in (0, 1))
    ratio = statistics.median(row[0] / row[1] for row in rows)
    means = [100 * statistics.mean(row[i] for row in rows) for i in (2, 3)]
    limit = PEER_LIMITS[peer]
    print(f"{peer} {packages.version(peer)}, noise of {noise}:")
    print(f"  {1e3 * other:.2f} ms a chip, mean accuracy {means[1]:.2f} %")
    print(f"  ours {1e3 * own:.2f} ms, {means[0]:.2f} % (medians of {ROUNDS} rounds in turns)")
    said = "held" if ratio <= limit else "MISSED"
    ratios = ", ".join(f"{row[0] / row[1]:.3f}" for row in rows)
    print(f"  ratio {ratio:.3f} ({ratios}), limit {limit:g}: {said}")
    return ratio > limit


def _round(ours: Ours, theirs: Theirs, number: int) -> tuple[float, float, float, float]:
    """Seconds of a chip, ours and theirs, and mean accuracies."""
    chips = range(number * PEER_CHIPS, (number + 1) * PEER_CHIPS)
    since = time.process_time()
    own = ours(chips)
    between = time.process_time()
    other = statistics.mean(theirs() for _ in chips)
    end = time.process_time()
    return (between - since) / PEER_CHIPS, (end - between) / PEER_CHIPS, own, other


def _ours(bench: Bench, device: Any, layers: Any, condition: Any) -> Ours:
    from targets.analog.engine import Engine, Hardware
    from targets.analog.montecarlo import CHUNK

    engine = Engine(bench.graph, layers, Hardware(device, condition, 0))

    def run(chips: range) -> float:
        found = []
        for start in range(0, len(chips), CHUNK):
            part = chips[start : start + CHUNK]
            made = [
                engine.run(bench.codes[at : at + engine.batch], part, batch)
                for batch, at in enumerate(range(0, len(bench.codes), engine.batch))
            ]
            found += [bench.rate(outputs) for outputs in np.concatenate(made, axis=1)]
        return statistics.mean(found)

    return run


def _aihwkit(bench: Bench) -> tuple[Ours, Theirs]:
    from targets.analog.build import laid_out
    from targets.analog.device import device_text, read_device
    from targets.analog.mapping import Arrays, Scheme
    from targets.analog.programmed import Condition
    from tests.targets.analog_peers import AihwkitChips

    pcm = read_device("pcm", device_text("pcm"))
    device = replace(pcm, dac=None, adc=None, conversion=None)
    arrays = Arrays(pcm.tile.rows, pcm.tile.columns, Scheme.DIFFERENTIAL)
    layers, _ = laid_out(bench.graph, arrays, (), device, lambda: None)
    peer = AihwkitChips(bench.graph, DAY_S, compensated=True)

    def theirs() -> float:
        peer.program()
        return bench.rate(peer.run(bench.codes))

    return _ours(bench, device, layers, Condition(DAY_S)), theirs


def _analogvnn(bench: Bench) -> tuple[Ours, Theirs]:
    from targets.analog.device import device_text, read_device

    return _photonic(bench, read_device("photonic", device_text("photonic")))


def _analogvnn_weights(bench: Bench) -> tuple[Ours, Theirs]:
    from targets.analog.device import device_text, read_device

    device = read_device("photonic", device_text("photonic"))
    return _photonic(bench, replace(device, input=None, detector=None))


def _photonic(bench: Bench, device: Any) -> tuple[Ours, Theirs]:
    from targets.analog.build import laid_out, reaches
    from targets.analog.mapping import Arrays, Scheme
    from targets.analog.programmed import Condition
    from tests.targets.analog_peers import AnalogVnnChips

    # Tiles that hold whole layers: AnalogVNN knows of no others.
    arrays = Arrays(512, 512, Scheme.SIGNED)
    layers, _ = laid_out(bench.graph, arrays, (), device, bench.source.samples)
    samples = bench.source.samples()
    assert samples is not None
    peer = AnalogVnnChips(bench.graph, device, reaches(bench.graph, layers, samples))
    ours = _ours(bench, device, layers, Condition())
    return ours, lambda: bench.rate(peer.run(bench.codes))


if __name__ == "__main__":
    sys.exit(main())
