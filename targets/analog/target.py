"""The target's options and what it does with a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

from flow.errors import Offence, UsageError
from flow.graph import Graph
from flow.metric import Metric
from flow.options import require_range, unknown_name
from flow.target import LayerNote, Matrix, Noise, Program, Simulation, Spread, Target, Trial
from flow.tools import Tool
from targets.analog import figures
from targets.analog.build import equip, laid_out, map_graph, offences, products
from targets.analog.chips import Question, ask, hits_of
from targets.analog.compare import compared
from targets.analog.costs import activity
from targets.analog.device import Device, Kind, device_text, is_file, read_device
from targets.analog.draws import MAX_SEED
from targets.analog.engine import Layer
from targets.analog.files import (
    read_activity,
    read_device_text,
    read_levels,
    read_reach,
    write_files,
)
from targets.analog.mapping import Arrays, Mapped, Scheme
from targets.analog.montecarlo import Wanted
from targets.analog.programmed import Compensation, Condition
from targets.analog.simulation import AnalogSimulation
from targets.analog.study import Bench, Study, answer, check
from targets.analog.training import noise_of_chips, require_noise
from targets.analog.wires import LARGEST


@dataclass(frozen=True)
class Analog(Target):
    """Matrix-vector products on arrays of analog devices, everything else digital.

    `device` is the name of one that ships or a .toml file; `rows`, `columns` and `adc_bits` are in
    the place of its own where they are not 0. `scheme` says how devices hold signed weights,
    `slice_bits` how many bits each of a bit-sliced one; with `by_column` the largest weight of
    every output, not of the layer, is at full level. `digital_layers` names layers, with commas
    between, that are to stay digital.

    A check simulates `chips` chips, numbered from 0, of the seed `chip_seed`, and fewer where the
    95 % interval of their mean accuracy is no more than `halfwidth` to each side before; a chip
    with an accuracy of `floor` is good. They are `time_s` seconds old, with `noise` times the
    device's standard deviations, and `compensation` of drift; nonlinear ramps are shifted so that
    their middle threshold is right, with `calibrate`. `study` asks more of them; `enough`
    is the share of chips that must be good.

    With `noise_aware` the network is trained on, for as many epochs as its quantized phase has,
    with weights as other chips of that age have them, of `training_noise` times that noise; a check
    compares it with the network before, and with one that was trained on without noise, on the same
    chips.
    """

    name: ClassVar[str] = "analog"

    device: str = "pcm"
    rows: int = 0
    columns: int = 0
    scheme: Scheme = Scheme.DIFFERENTIAL
    slice_bits: int = 2
    by_column: bool = False
    adc_bits: int = 0
    digital_layers: str = ""
    chips: int = 100
    chip_seed: int = 0
    halfwidth: float = 0.0
    floor: float = 0.0
    time_s: float = 0.0
    noise: float = 1.0
    compensation: Compensation = Compensation.GLOBAL
    calibrate: bool = True
    study: Study = Study.NONE
    enough: float = 0.9
    noise_aware: bool = False
    training_noise: float = 3.0

    def __post_init__(self) -> None:
        require_range("rows", self.rows, 0, 1 << 16)
        require_range("columns", self.columns, 0, 1 << 16)
        require_range("slice_bits", self.slice_bits, 1, 16)
        require_range("adc_bits", self.adc_bits, 0, 32)
        require_range("chips", self.chips, 2, 100_000)
        require_range("chip_seed", self.chip_seed, 0, MAX_SEED - 1)
        require_range("halfwidth", self.halfwidth, 0, 1)
        require_range("floor", self.floor, 0, 1)
        require_range("time_s", self.time_s, 0, 1e10)
        require_range("noise", self.noise, 0, 100)
        require_range("enough", self.enough, 0, 1)
        require_range("training_noise", self.training_noise, 0, 100)
        if self.by_column and self.scheme in (Scheme.OFFSET, Scheme.BIT_SLICED):
            raise UsageError(
                f"option by_column is of scheme=differential: with {self.scheme.value} cells all "
                f"outputs share their levels; leave it out"
            )
        if not is_file(self.device):
            self._check_device(read_device(self.device, device_text(self.device)))

    def _check_device(self, device: Device) -> None:
        """Raises UsageError where options do not fit the device."""
        photonic = device.kind is Kind.PHOTONIC
        if photonic and self.scheme in (Scheme.OFFSET, Scheme.BIT_SLICED):
            raise UsageError(
                f"option scheme={self.scheme.value} is of devices that hold no signs; device "
                f"{self.device} does, leave it out"
            )
        if not photonic and self.scheme is Scheme.SIGNED:
            raise UsageError(
                f"option scheme=signed is of devices that hold signs; device {self.device} does "
                f"not, use differential, offset or bit_sliced"
            )
        if photonic and self.adc_bits:
            raise UsageError(
                f"option adc_bits is of crossbars; the detector of device {self.device} has a "
                f"precision of its own, leave it out"
            )
        if self.adc_bits and device.adc is None:
            raise UsageError(
                f"option adc_bits is of devices with ADCs; device {self.device} has none"
            )
        if self.time_s and device.drift is None:
            raise UsageError(
                f"option time_s is of devices that drift; device {self.device} does not, leave it "
                f"out"
            )
        if self.noise_aware:
            require_noise(self.device, device, self._trained)
        if not self.calibrate and device.nl_adc is None:
            raise UsageError(
                f"option calibrate is of devices with nonlinear ramps; device {self.device} has no "
                f"nl_adc, leave it out"
            )
        if device.nl_adc is not None and self.scheme is Scheme.BIT_SLICED:
            raise UsageError(
                f"option scheme=bit_sliced adds up its slices digitally, and nonlinear ramps, as "
                f"device {self.device} has them, read whole sums; use differential or offset"
            )
        size = self._arrays(device)
        if device.wire is not None and max(size.rows, size.columns) > LARGEST:
            raise UsageError(
                f"option rows, columns: with wires, tiles must be of at most {LARGEST} x {LARGEST} "
                f"devices, not {size.rows} x {size.columns}"
            )
        check(self.study, device, self.floor)
        columns = self.columns or device.tile.columns
        if columns < 2:
            raise UsageError(f"option columns must be at least 2, not {columns}")

    @property
    def _digital(self) -> tuple[str, ...]:
        return tuple(name for name in self.digital_layers.split(",") if name)

    @property
    def _condition(self) -> Condition:
        return Condition(self.time_s, self.noise, self.compensation, self.calibrate)

    @property
    def _trained(self) -> Condition:
        """What training sees."""
        return replace(self._condition, noise=self.noise * self.training_noise)

    def weight_noise(self) -> Noise | None:
        if not self.noise_aware:
            return None
        device = self._device(device_text(self.device))
        return noise_of_chips(device, self._arrays(device), self._trained, self._digital)

    def _device(self, text: str) -> Device:
        """What a TOML text describes, with the options in it."""
        device = read_device(self.device, text)
        self._check_device(device)
        if self.adc_bits and device.adc is not None:
            return replace(device, adc=replace(device.adc, bits=self.adc_bits))
        return device

    def _arrays(self, device: Device) -> Arrays:
        signed = device.kind is Kind.PHOTONIC
        return Arrays(
            self.rows or device.tile.rows,
            self.columns or device.tile.columns,
            Scheme.SIGNED if signed else self.scheme,
            self.slice_bits,
            self.by_column,
        )

    def check(self, graph: Graph) -> list[Offence]:
        for name in self._digital:
            if name not in products(graph):
                raise UsageError(
                    f"option digital_layers: {unknown_name('layer', name, products(graph))}"
                )
        device = self._device(device_text(self.device))
        return offences(graph, self._arrays(device), self._digital, device.nl_adc is not None)

    def files(self) -> tuple[Path, ...]:
        self._device(device_text(self.device))
        return (Path(self.device),) if is_file(self.device) else ()

    def check_matrices(self, matrices: Mapping[str, Matrix]) -> None:
        self.files()

    def tools(self) -> tuple[Tool, ...]:
        return ()

    def packages(self) -> tuple[str, ...]:
        return ("numpy", "scipy")

    def emit(self, program: Program, folder: Path) -> list[str]:
        text = device_text(self.device)
        device, graph = self._device(text), program.graph
        samples = cache(program.samples)
        layers, reach = laid_out(graph, self._arrays(device), self._digital, device, samples)
        active = {}
        if device.read is not None and (codes := samples()) is not None:
            active = activity(graph, layers, device, codes)
        write_files(folder, text, device, layers, reach, active)
        return figures.warnings(graph, layers, device, reach)

    def simulation(self, graph: Graph, folder: Path) -> Simulation:
        return AnalogSimulation(graph, self._layers(graph, folder)[1])

    def spread(self, graph: Graph, folder: Path, trial: Trial) -> Spread:
        device, layers = self._layers(graph, folder)
        wanted = Wanted(self.chips, self.halfwidth)
        question = Question(wanted, self._condition, self.chip_seed, self.floor)
        told = ask(graph, layers, device, self.device, question, trial)
        if trial.others:
            arrays, mine = self._arrays(device), hits_of(graph, layers, device, question, trial)
            for other in trial.others:
                theirs, _ = laid_out(other.graph, arrays, self._digital, device, other.samples)
                hits = hits_of(other.graph, theirs, device, question, other.trial)
                told = compared(told, mine, hits, other, self.floor)
        if self.study is Study.NONE or trial.right is None:
            return told
        reach = read_reach(folder)
        more = answer(self.study, Bench(graph, layers, device, reach, question, self.enough, trial))
        metrics, notes = (*told.metrics, *more.metrics), (*told.warnings, *more.notes)
        return replace(told, metrics=metrics, warnings=notes)

    def _layers(self, graph: Graph, folder: Path) -> tuple[Device, tuple[Layer, ...]]:
        """The device and the layers of the artifact in `folder`."""
        device = self._device(read_device_text(folder))
        mapped = self._mapped(graph, device)
        return device, equip(read_levels(folder, mapped, device), device, read_reach(folder))

    def _mapped(self, graph: Graph, device: Device) -> dict[int, Mapped]:
        return map_graph(graph, self._arrays(device), self._digital, device.nl_adc is not None)

    def metrics(self, graph: Graph, folder: Path) -> list[Metric]:
        device, layers = self._layers(graph, folder)
        return figures.metrics(graph, layers, device, read_activity(folder))

    def layers(self, graph: Graph, folder: Path) -> Mapping[str, LayerNote]:
        device, layers = self._layers(graph, folder)
        return figures.notes(graph, layers, device)
