"""A request for a schedule with its names resolved and its options read: what comes before the
work."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from flow import packages
from flow.artifact import given_folder, json_digest
from flow.errors import UsageError
from flow.options import option_types, require_range, with_options
from flow.plan import Events, make_target, source_digest
from flow.schedule import variant_file as files
from flow.schedule import variants as known_as
from flow.schedule.host_table import host_predictor
from flow.schedule.platform import Kind, Load
from flow.schedule.platform_file import load_platform
from flow.schedule.policies import POLICIES, find_policy
from flow.schedule.policies.base import Policy
from flow.schedule.trace import Trace
from flow.schedule.trace_spec import make_trace
from flow.schedule.variants import Artifact, Known

HOST = "host"
_FIXED = ("analog", "hls4ml", "rtl")  # targets whose artifacts tell their own latency


class Latency(Enum):
    MEASURED = "measured"
    PREDICTED = "predicted"


@dataclass(frozen=True)
class Settings:
    """Options: `policies` by name, parted by commas (all that the platform allows), `policy` the
    one that is exported; `miss_mj` the price of a miss; `load` what networks are short of;
    `latency` of artifacts measured here, in `rounds`, or predicted; `host_speed` how many times
    faster this host is than the platform's fastest point; `active_mw` what a design draws above
    its idle board; `jitter` the sd of the log of what each inference takes over what it should;
    `grid_us` the oracle's, `bounds` whether it runs; `studies` the sweeps; `window_ms` of the
    timeline; `drive` so many requests with real interpreters."""

    policies: str = ""
    policy: str = "price"
    miss_mj: float = 1000.0
    load: Load = Load.COMPUTE
    latency: Latency = Latency.MEASURED
    rounds: int = 300
    host_speed: float = 0.0
    active_mw: float = -1.0
    jitter: float = 0.0
    grid_us: int = 500
    bounds: bool = True
    studies: bool = True
    window_ms: float = 2000.0
    drive: int = 0

    def __post_init__(self) -> None:
        require_range("miss_mj", self.miss_mj, 0.0, 1e9)
        require_range("rounds", self.rounds, 20, 100_000)
        require_range("host_speed", self.host_speed, 0.0, 1e6)
        require_range("active_mw", self.active_mw, -1.0, 1e9)
        require_range("jitter", self.jitter, 0.0, 2.0)
        require_range("window_ms", self.window_ms, 1.0, 1e6)
        require_range("drive", self.drive, 0, 1_000_000)


@dataclass(frozen=True)
class ScheduleRequest:
    """What to schedule: a platform's name or .toml file, a trace's generator or file, variants, and
    options as text: those of `Settings`, `policy.option`, and the platform's own numbers by path;
    where results go (`out`: the folder itself, otherwise one under `runs`)."""

    platform: str
    trace: str
    models: str
    options: Mapping[str, str] = field(default_factory=dict)
    out: Path | None = None
    runs: Path = Path("reports/runs")

    @property
    def command(self) -> dict[str, str]:
        """Make's variables."""
        opts = " ".join(f"{key}={value}" for key, value in self.options.items())
        given = {"PLATFORM": self.platform, "TRACE": self.trace, "MODELS": self.models}
        return {**given, **({"OPTS": opts} if opts else {})}


class SchedulePlan:
    """A request with its names resolved: everything that comes before the work."""

    def __init__(self, request: ScheduleRequest, events: Events):
        self.request, self.events = request, events
        own, self.rules, numbers = _parted(request.options)
        self.settings = with_options(Settings(), own)
        self.platform = load_platform(request.platform, numbers)
        self.policies, self.asked = _policies(self.settings, self.rules)
        self.items, self.demands = files.read_items(request.models, request.runs)
        packages.require("scipy")
        packages.require("numba")

    @cached_property
    def artifacts(self) -> list[Artifact | None]:
        """Of each item."""
        return [
            None if item.folder is None else known_as.read_artifact(item.folder, item.accuracy)
            for item in self.items
        ]

    @cached_property
    def models(self) -> list[str]:
        """What requests may ask for, in order."""
        return list(dict.fromkeys(each.variant.model for each in self.known))

    @cached_property
    def known(self) -> list[Known]:
        """All variants, timed if need be."""
        folders = [(i.model, i.folder.resolve()) for i in self.items if i.folder is not None]
        if len(set(folders)) < len(folders):  # before any is timed
            raise UsageError(f"MODELS={self.request.models}: an artifact stands there twice")
        found: list[Known] = []
        for item, artifact in zip(self.items, self.artifacts, strict=True):
            found += self._variants(item, artifact)
        if len({(each.variant.model, each.variant.name) for each in found}) < len(found):
            raise UsageError(f"MODELS={self.request.models}: a variant stands there twice")
        return found

    def _variants(self, item: files.Item, artifact: Artifact | None) -> list[Known]:
        if item.designs:
            return self._designs(item.model)
        if item.known is not None:
            return [item.known]
        assert artifact is not None
        model, target = item.model or artifact.model, artifact.target
        if item.typed is not None:
            made = files.known(
                model, artifact.name, target, artifact.accuracy, item.load, item.typed
            )
            return [replace(made, artifact=artifact)]
        if target in _FIXED:
            mw = self.settings.active_mw
            power, clocked = mw if mw >= 0 else None, _clocked(artifact)
            return [known_as.on_fixed(artifact, model, self.platform, power, clocked)]
        return [self._timed(artifact, model, item.load)]

    def _designs(self, task: str) -> list[Known]:
        tasks = [task] if task else dict.fromkeys(design.task for design in self.platform.designs)
        if not tasks:
            raise UsageError(
                f"MODELS={self.request.models}: {self.platform.name} has no designs that somebody "
                f"measured; give artifacts or a TOML file of variants"
            )
        return [known for each in tasks for known in known_as.of_designs(self.platform, each)]

    def _timed(self, artifact: Artifact, model: str, load: Load) -> Known:
        """For a processor."""
        if not any(c.kind is Kind.DVFS_CPU for c in self.platform.clusters):
            raise UsageError(
                f"{artifact.folder}: {self.platform.name} tells no speeds of programs, so that no "
                f"latency follows; give the variant's times there in a TOML file of variants"
            )
        speed = self.settings.host_speed
        if not speed and self.platform.name != HOST:
            raise UsageError(
                f"{artifact.folder}: how fast {self.platform.name} runs it is not known; set OPTS "
                f"host_speed=… (how many times faster this host is than the platform's fastest "
                f"point), or give measured times in a TOML file of variants"
            )
        load = self.settings.load if load is Load.COMPUTE else load
        seconds = None
        if self.settings.latency is Latency.MEASURED:
            target = make_target(artifact.target)
            target = target.with_options(artifact.options)
            self.events.note(f"timing {artifact.name}")
            graph, rounds = artifact.graph(), self.settings.rounds
            measured = target.host_seconds(graph, artifact.folder, rounds)
            seconds = None if measured is None else measured.tolist()
        return known_as.on_cpu(artifact, model, load, speed or 1.0, seconds, host_predictor())

    @cached_property
    def trace(self) -> Trace:
        return make_trace(self.request.trace, self.models, self.demands)

    @cached_property
    def training(self) -> Trace:
        """Another trace of the same kind, for what is tuned."""
        return make_trace(self.request.trace, self.models, self.demands, training=True)

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """All that decides the result, but what is measured on the way."""
        text = repr((self.platform, [(i.model, i.load, i.known, i.typed) for i in self.items]))
        file = Path(self.request.trace)
        trace = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        return {
            "schedule": {**self.request.command, "trace_sha256": trace},
            "given": hashlib.sha256(text.encode()).hexdigest(),
            "artifacts": [None if a is None else a.sha256 for a in self.artifacts],
            "demands": [repr(demand) for demand in self.demands],
            "source": source_digest(),
        }

    @cached_property
    def key(self) -> str:
        return json_digest(self.inputs)

    @cached_property
    def folder(self) -> Path:
        out = self.request.out
        if out is None:
            return self.request.runs / f"schedule-{self.platform.name}-{self.key[:8]}"
        return given_folder(out)


def _clocked(artifact: Artifact) -> known_as.Clocked:
    """What the design of an FPGA was made for."""
    design = make_target(artifact.target).with_options(artifact.options).design
    if design is not None:
        return known_as.Clocked(design.part, design.clock_ns)
    return known_as.Clocked(artifact.options.get("part", ""))


def _parted(
    options: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, dict[str, str]], dict[str, float]]:
    """Options of the command, of policies by name, and the platform's numbers by path."""
    own: dict[str, str] = {}
    rules: dict[str, dict[str, str]] = {}
    numbers: dict[str, float] = {}
    for key, text in options.items():
        first, dot, rest = key.partition(".")
        if key in option_types(Settings):
            own[key] = text
        elif dot and first in POLICIES:
            rules.setdefault(first, {})[rest] = text
        else:
            try:
                numbers[key] = float(text)
            except ValueError:
                raise UsageError(
                    f"OPTS: {key}={text}: {key} is no option ({', '.join(option_types(Settings))}),"
                    f" no policy's, and a platform's number must be a number"
                ) from None
    return own, rules, numbers


def _policies(
    settings: Settings, rules: Mapping[str, Mapping[str, str]]
) -> tuple[list[Policy], bool]:
    """Those to simulate, that which is exported among them; whether the user named them."""
    named = [name.strip() for name in settings.policies.split(",") if name.strip()]
    wanted = list(dict.fromkeys([*(named or POLICIES), settings.policy]))
    found = []
    for name in wanted:
        policy = find_policy(name, rules.get(name, {}))
        if "miss_mj" in {f.name for f in fields(policy)} and "miss_mj" not in rules.get(name, {}):
            policy = find_policy(name, {**rules.get(name, {}), "miss_mj": str(settings.miss_mj)})
        found.append(policy)
    return found, bool(named)
