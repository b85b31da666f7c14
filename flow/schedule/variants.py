"""Variants from compiled artifacts: accuracy as delivered, latency measured or predicted, and where
each number is from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.artifact import read_manifest
from flow.errors import UsageError
from flow.graph import MAX_TEXT, Graph
from flow.metric import Interval, Kind, Metric
from flow.report.result import Report
from flow.report.run import read_run
from flow.schedule import platform as platforms
from flow.schedule.host_table import Predictor
from flow.schedule.layer_work import network_work
from flow.schedule.margin import Margin
from flow.schedule.platform import Design, Load, Method, Platform
from flow.schedule.work import Run, Variant, measured_variants

STAGES = ("chips", "integer", "simulation")  # of accuracy: which one hardware delivers, in order
MAX_VARIANTS = 256
_PER_MS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
_PER_MJ = {"pJ": 1e-9, "nJ": 1e-6, "uJ": 1e-3, "mJ": 1.0}


@dataclass(frozen=True)
class Artifact:
    """A compiled network: where it lies, what it is called, and what its report says. `options` are
    the target's."""

    folder: Path
    model: str
    target: str
    options: Mapping[str, str]
    accuracy: Metric
    report: Report
    sha256: str

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def graph(self) -> Graph:
        """Raises UsageError where it cannot be read."""
        path = self.folder / "graph.json"
        try:
            if (size := path.stat().st_size) > MAX_TEXT:
                raise UsageError(f"{path} is of {size} bytes, at most {MAX_TEXT} are read")
            return Graph.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot be read: {error}; compile again") from error


@dataclass(frozen=True)
class Known:
    """A variant with where its numbers are from: `accuracy` in percent, `latency` in ms (at the
    platform's fastest point, or at the first point of the cluster that runs it), `energy` in mJ
    above the idle cluster where the platform's power does not tell it. `predicted` is what policies
    believe, and `margin` by how much that may be off, where a latency model tells it."""

    variant: Variant
    accuracy: Metric
    latency: Metric
    energy: Metric | None = None
    predicted: Variant | None = None
    artifact: Artifact | None = None
    margin: Margin | None = None

    @property
    def believed(self) -> Variant:
        return self.predicted or self.variant

    def to_json(self) -> dict[str, Any]:
        made = self.artifact
        return {
            "model": self.variant.model,
            "name": self.variant.name,
            "target": self.variant.target,
            "load": self.variant.load.value,
            "accuracy": self.accuracy.to_json(),
            "latency": self.latency.to_json(),
            "energy": self.energy and self.energy.to_json(),
            "artifact": None if made is None else str(made.folder),
            "artifact_sha256": "" if made is None else made.sha256,
        }


def read_artifact(folder: Path, accuracy: Metric | None = None) -> Artifact:
    """The artifact in a folder, its files checked against their hashes; `accuracy` (percent) is of
    one that was compiled from a file.

    Raises:
        UsageError: there is none, it was changed, it differs from its reference, or its accuracy is
            not known, or told twice.
    """
    manifest = read_manifest(folder)
    report = read_run(folder).told
    if not report.agreement.matches:
        raise UsageError(
            f"{folder}: its outputs differ from the reference's: {report.agreement}; only what "
            f"was proven is scheduled"
        )
    score = next((percent(report.scores[each]) for each in STAGES if each in report.scores), None)
    right = score or accuracy
    if right is None:
        raise UsageError(
            f"{folder}: it has no accuracy, as it was compiled from a file or with untrained=true; "
            f"give its accuracy in a TOML file of variants"
        )
    if score is not None and accuracy is not None:
        raise UsageError(f"{folder}: the artifact tells its accuracy; leave out accuracy")
    options = manifest.get("options")
    given = options if isinstance(options, dict) else {}
    told = {str(name): str(value) for name, value in given.items()}
    key = str(manifest.get("key", ""))
    return Artifact(folder, report.model, report.target, told, right, report, key)


def percent(score: Metric) -> Metric:
    """A share as percent."""
    around = score.interval
    scaled = around and Interval(100 * around.low, 100 * around.high, around.coverage)
    return dataclasses.replace(score, value=100 * score.value, unit="%", interval=scaled)


def on_cpu(
    artifact: Artifact,
    model: str,
    load: Load,
    host_speed: float,
    seconds: Sequence[float] | None,
    predictor: Predictor,
) -> Known:
    """A variant for processors, whose times follow from one at the platform's fastest point: this
    host's, times how many times faster the host is (`host_speed`, which its user assumes). With
    `seconds` that were measured here, their median is what an inference takes and policies believe
    the prediction; without, the prediction is both."""
    network = network_work(artifact.graph())
    guess = predictor.seconds(network)
    told = f"times host_speed={host_speed:g}, as set by the user"
    law = f"a + MACs/r + bytes/bandwidth, fitted to {predictor.networks} networks on a host"
    believed = Variant(
        model,
        artifact.target,
        artifact.name,
        artifact.accuracy.value,
        load,
        guess * host_speed * 1e6,
    )
    if seconds is None:
        bounds = predictor.margin.interval(guess * host_speed * 1e3)
        latency = Metric("latency", guess * host_speed * 1e3, "ms", Kind.ESTIMATED, law, bounds)
        if host_speed != 1:
            latency = dataclasses.replace(latency, kind=Kind.ASSUMED, source=f"{law}, {told}")
        return Known(
            believed, artifact.accuracy, latency, artifact=artifact, margin=predictor.margin
        )
    middle = sorted(seconds)[len(seconds) // 2]
    source = f"median of {len(seconds)} inferences on this host, one thread"
    latency = Metric("latency", middle * host_speed * 1e3, "ms", Kind.MEASURED, source)
    if host_speed != 1:
        latency = dataclasses.replace(latency, kind=Kind.ASSUMED, source=f"{source}, {told}")
    real = dataclasses.replace(believed, reference_us=middle * host_speed * 1e6)
    return Known(
        real,
        artifact.accuracy,
        latency,
        predicted=believed,
        artifact=artifact,
        margin=predictor.margin,
    )


@dataclass(frozen=True)
class Clocked:
    """What a design was made for: a `device`, as its maker calls it ("": any), and the period of
    its clock, in which its report counts cycles; None where the report tells times."""

    device: str = ""
    clock_ns: float | None = None


def on_fixed(
    artifact: Artifact,
    model: str,
    platform: Platform,
    active_mw: float | None,
    made: Clocked = Clocked(),
) -> Known:
    """A variant for an FPGA or an analog tile: time, and of a tile energy, are what the artifact's
    report says. An FPGA takes the next input of a batch after the design's interval. What a design
    adds to its board is `active_mw`, which the user sets.

    Raises:
        UsageError: the report has no latency, or no energy, active_mw is not set, or the design is
            for another device.
    """
    kind = platforms.Kind.ANALOG_TILE if artifact.target == "analog" else platforms.Kind.FPGA
    places = [cluster for cluster in platform.clusters if cluster.kind is kind]
    if not places:
        raise UsageError(
            f"{artifact.folder}: platform {platform.name} has no cluster of kind {kind.value} for "
            f"what was compiled for {artifact.target}"
        )
    for cluster in places:
        if made.device and cluster.device and not made.device.startswith(cluster.device):
            raise UsageError(
                f"{artifact.folder}: it was made for {made.device}, and {cluster.name} of "
                f"{platform.name} is of {cluster.device}; compile it for that part"
            )
    period = made.clock_ns
    units = _PER_MS if period is None else {**_PER_MS, "cycles": period * 1e-6}
    latency = _in(artifact, "latency", units, "ms")
    after = None if kind is platforms.Kind.ANALOG_TILE else _interval(artifact, units)
    if period is not None:
        told = f"{latency.source}; at clock_ns={period:g}, which only synthesis can show to be met"
        latency = dataclasses.replace(latency, source=told)
    if after is not None:
        told = f"{latency.source}; {after:.3g} ms each behind its like"
        latency = dataclasses.replace(latency, source=told)
    if kind is platforms.Kind.ANALOG_TILE:
        energy = _in(artifact, "energy", _PER_MJ, "mJ")
    elif active_mw is None:
        raise UsageError(
            f"{artifact.folder}: what a design on {platform.name} draws above the idle board is "
            f"not known; set OPTS active_mw=… (mW)"
        )
    else:
        source = f"latency times active_mw={active_mw:g}, as set by the user"
        mj = latency.value * active_mw * 1e-3
        energy = Metric("energy", mj, "mJ", Kind.ASSUMED, source)
    runs = {
        cluster.name: Run(
            (latency.value * 1e3,) * len(cluster.points),
            (energy.value,) * len(cluster.points),
            None if after is None else (after * 1e3,) * len(cluster.points),
        )
        for cluster in places
    }
    accuracy = artifact.accuracy
    variant = Variant(model, artifact.target, artifact.name, accuracy.value, runs=runs)
    return Known(variant, accuracy, latency, energy, artifact=artifact)


def _interval(artifact: Artifact, units: Mapping[str, float]) -> float | None:
    """How much later, in ms, the next input of a batch is done; None where the report does not
    tell."""
    told = {metric.name: metric for metric in artifact.report.metrics if metric.unit in units}
    if "interval" in told:
        return told["interval"].value * units[told["interval"].unit]
    rates = (m for m in artifact.report.metrics if m.name == "throughput" and m.unit == "1/s")
    return next((1e3 / metric.value for metric in rates), None)


def _in(artifact: Artifact, name: str, units: Mapping[str, float], unit: str) -> Metric:
    """The report's figure of that name that is best known, in `unit`."""
    order = list(Kind)
    found = [m for m in artifact.report.metrics if m.name == name and m.unit in units]
    if not found:
        raise UsageError(
            f"{artifact.folder}: its report has no {name} in {', '.join(units)}; compile it with "
            f"options that tell one, or give runs of it in a TOML file of variants"
        )
    metric = min(found, key=lambda m: order.index(m.kind))
    times, around = units[metric.unit], metric.interval
    scaled = around and Interval(around.low * times, around.high * times, around.coverage)
    return dataclasses.replace(metric, value=metric.value * times, unit=unit, interval=scaled)


def of_designs(platform: Platform, task: str) -> list[Known]:
    """The networks for a task that somebody measured on the platform's board. Raises UsageError, as
    `measured_variants`."""
    designs = [design for design in platform.designs if design.task == task]
    made = zip(measured_variants(platform, task), designs, strict=True)
    return [_measured(variant, design) for variant, design in made]


def _measured(variant: Variant, design: Design) -> Known:
    kind = Kind.MEASURED if design.source.method is Method.MEASURED else Kind.ASSUMED
    said = str(design.source)
    assert variant.runs is not None
    run = variant.runs[design.cluster]
    assert run.energy_mj is not None
    less = f"{said}; less what the board draws idle, 0 where it is below"
    return Known(
        variant,
        Metric("accuracy", variant.accuracy, "%", kind, f"{design.metric}; {said}"),
        Metric("latency", run.time_us[0] * 1e-3, "ms", kind, said),
        Metric("energy", run.energy_mj[0], "mJ", kind, less),
    )
