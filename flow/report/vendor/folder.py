"""A folder that was synthesized anywhere: its reports, and whether they belong together.

Reports of one stage become one `Synthesis`. A folder with two solutions, with reports of two
designs, or with a report that is older than what it was made from, is refused.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from flow.errors import UsageError
from flow.metric import Kind, Metric
from flow.report.vendor import nextpnr, oneapi, quartus, vitis, vivado, yosys
from flow.report.vendor.joining import merge, same_part
from flow.report.vendor.reading import Damaged, Form, close, read_text
from flow.report.vendor.synthesis import Module, Stage, Synthesis

FORMS: tuple[Form, ...] = (
    *vitis.FORMS,
    *vivado.FORMS,
    *quartus.FORMS,
    *oneapi.FORMS,
    *nextpnr.FORMS,
    *yosys.FORMS,
)
IF_TOO_LARGE = "use a larger part, a higher reuse_factor or a longer clock_ns"
_MAX_FILES = 200_000
_LISTED = 5  # solutions, in a message
_SUFFIXES = frozenset({".rpt", ".xml", ".ndjson", ".json", ".log", ".txt", ".summary", ".js"})
# Files that can be nothing else: where one is not known by its beginning, it is damaged.
_NAMES = re.compile(
    r".*(_csynth\.(xml|rpt)|_cosim\.rpt|_utilization_\w+\.rpt|_timing_summary_\w+\.rpt"
    r"|_power_\w+\.rpt|\.fit\.rpt|\.sta\.rpt)|(summary|loop_attr|quartus)\.ndjson"
)
_HEAD = 4096
_ZONES_S = 26 * 3600  # between the clocks of two places on Earth
_COPYING_S = 60


@dataclass(frozen=True)
class Found:
    """The stages that a folder holds reports of, in order, and what there is to say of the rest."""

    stages: tuple[Synthesis, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"stages": [stage.to_json() for stage in self.stages], "notes": list(self.notes)}

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Found:
        """Raises KeyError, TypeError or ValueError where `body` is none."""
        return cls(tuple(Synthesis.from_json(row) for row in body["stages"]), tuple(body["notes"]))

    def metrics(self) -> list[Metric]:
        """Every stage's numbers; of those with one name, unit and kind the furthest stage's."""
        found = [metric for stage in self.stages for metric in stage.metrics()]
        return list({(metric.name, metric.unit, metric.kind): metric for metric in found}.values())

    def beside(self, expected: Iterable[Metric]) -> list[Metric]:
        """What stands in the reports of that which was estimated of them."""
        names = {metric.name for metric in expected if metric.kind is Kind.ESTIMATED}
        found: dict[str, Metric] = {}
        for stage in self.stages:
            for kind, count in stage.resources.items():
                name = f"{kind.value} {stage.account}"
                if name in names:
                    source = f"stands in the report of {stage.by}"
                    found[name] = Metric(name, count.used, "1", Kind.MEASURED, source)
        return list(found.values())

    def with_layers(self, layer_of: Callable[[str], tuple[str, str] | None]) -> Found:
        """The same with layer and part of each module, as `layer_of` tells them by its name."""
        return replace(
            self,
            stages=tuple(
                replace(
                    stage,
                    modules=tuple(
                        replace(module, layer=known[0], part=known[1])
                        if (known := layer_of(module.name))
                        else module
                        for module in stage.modules
                    ),
                )
                for stage in self.stages
            ),
        )

    def of_layers(self) -> dict[str, list[Metric]]:
        """What each layer uses; of one kind and name the furthest stage's."""
        found: dict[str, dict[tuple[str, Kind], Metric]] = {}
        for stage in self.stages:
            for layer, metrics in stage.of_layers().items():
                found.setdefault(layer, {}).update({(m.name, m.kind): m for m in metrics})
        return {layer: list(metrics.values()) for layer, metrics in found.items()}

    def last(self, has: str) -> Synthesis | None:
        """The furthest stage whose field `has` is given."""
        return next((s for s in reversed(self.stages) if getattr(s, has)), None)

    def problems(self) -> list[str]:
        """Where the design does not fit or misses its clock, by the furthest stage that says so."""
        return [
            f"{stage.by}: {problem}"
            for has, of_clock in (("resources", False), ("clocks", True))
            if (stage := self.last(has)) is not None
            for problem in stage.problems()
            if problem.startswith("clock ") is of_clock
        ]

    def differences(self, top: str, part: str, clock_ns: float) -> list[str]:
        """Where a stage is of another design than that of `top`, for `part`, at `clock_ns`."""
        found = []
        for stage in self.stages:
            here = f"in {stage.by} ({stage.files[0]})"
            target = stage.clock.target_ns if stage.clock else None
            if stage.design is not None and stage.design.lower() != top.lower():
                found.append(f"design {stage.design} {here}, not {top}")
            if not same_part(stage.part, part):
                found.append(f"part {stage.part} {here}, not {part}")
            if target is not None and not close(target, clock_ns, 0.005):
                found.append(f"clock {target:g} ns {here}, not {clock_ns:g} ns")
        return found


def read_folder(path: Path) -> Found:
    """The reports at `path`, a folder or one report.

    Raises:
        UsageError: there is none, or they are damaged, stale, or of more than one design.
        ToolFailed, Mismatch: the tool failed, or its co-simulation did.
    """
    if not path.exists():
        raise UsageError(f"SYNTH={path}: there is no such folder or file")
    known, refused = _classify(path)
    if not known:
        why = "".join(f"\n  {name}: {text}" for name, text in refused.items())
        raise UsageError(
            f"SYNTH={path}: holds no report that is read (Vitis and Vivado HLS, Vivado, Quartus, "
            f"oneAPI, nextpnr, Yosys){'; what it holds:' if why else ''}{why}"
        )
    known = _top_only(path, known)
    reports = [
        _named(read(read_text(file), _where(path, file)), file)
        for file, read in ((file, form.read) for file, form in known.items())
        if read is not None
    ]
    stages = _with_modules(path, [merge(group) for group in _by_stage(reports)])
    _check_same_design(stages)
    _check_dates(stages)
    notes = [_check_sources(path, known, stages)]
    notes += [f"{name} is not read: {text}" for name, text in refused.items()]
    return Found(tuple(stages), tuple(note for note in notes if note))


def _where(path: Path, file: Path) -> str:
    return str(file.relative_to(path)) if path.is_dir() else file.name


def _classify(path: Path) -> tuple[dict[Path, Form], dict[str, str]]:
    """Every report by its form, and those that are known but not read, with the reason."""
    known: dict[Path, Form] = {}
    refused: dict[str, str] = {}
    for file in _files(path) if path.is_dir() else [path]:
        try:
            with file.open("rb") as handle:
                head = handle.read(_HEAD).decode("latin-1").replace("\r\n", "\n")
        except OSError as error:
            raise UsageError(f"{file}: cannot be read: {error.strerror}") from error
        name = file.as_posix()
        form = next((form for form in FORMS if form.begins(name, head)), None)
        if form is None and _NAMES.fullmatch(file.name):
            raise Damaged(f"{_where(path, file)}: does not begin as such a report does; it is cut")
        if form is not None and form.read is not None:
            known[file] = form
        elif form is not None:
            refused[_where(path, file)] = form.refused
    # What a report that is read says too needs no mention.
    said = ["csynth.rpt"] if any(form.name == "C synthesis" for form in known.values()) else []
    said += [".summary"] if any(form.name == "fitter" for form in known.values()) else []
    return known, {k: v for k, v in refused.items() if not k.endswith(tuple(said))}


def _files(path: Path) -> Iterator[Path]:
    seen = 0
    for folder, inside, names in os.walk(path):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        for name in sorted(names):
            seen += 1
            if seen > _MAX_FILES:
                raise UsageError(f"SYNTH={path}: holds more than {_MAX_FILES} files")
            file = Path(folder, name)
            if file.suffix in _SUFFIXES and file.is_file() and not file.is_symlink():
                yield file


def _top_only(path: Path, known: dict[Path, Form]) -> dict[Path, Form]:
    """Without the C synthesis of modules inside the design; see `_with_modules`.

    Raises:
        UsageError: there are two solutions, or no telling which module is the whole.
    """
    synthesized = [file for file, form in known.items() if form.name == "C synthesis"]
    solutions = sorted({_solution(file) for file in synthesized})
    if len(solutions) > 1:
        names = ", ".join(_where(path, solution) for solution in solutions[:_LISTED])
        more = f" and {len(solutions) - _LISTED} more" if len(solutions) > _LISTED else ""
        raise UsageError(
            f"SYNTH={path}: holds {len(solutions)} solutions, {names}{more}; give one of them"
        )
    tops = _tops(synthesized)
    if len(tops) > 1:
        app = _app_top(solutions[0])
        named = app if app in tops else _project_top(synthesized[0], tops)
        if named is None:
            raise UsageError(
                f"SYNTH={path}: holds the C synthesis of {', '.join(sorted(tops))}, and nothing "
                f"says which is the whole; keep the project's hls.app, or give one file"
            )
        tops = {named}
    drop = {file for file in synthesized if _module(file) not in tops}
    if any(_module(file) for file in synthesized):  # csynth.xml: all modules' in one
        drop |= {file for file in synthesized if not _module(file)}
    return {file: form for file, form in known.items() if file not in drop}


def _module(file: Path) -> str:
    return file.name.rpartition("csynth")[0].rstrip("_")


def _tops(files: Iterable[Path]) -> set[str]:
    return {_module(file) for file in files} - {""} or {""}


def _solution(file: Path) -> Path:
    """The folder of the solution that a report of C synthesis is of."""
    reports = file.parent
    return reports.parents[1] if reports.parts[-2:] == ("syn", "report") else reports


def _app_top(solution: Path) -> str | None:
    """What the project of a solution calls its top function."""
    for app in (*solution.parent.glob("*hls.app"), *solution.glob("*hls.app")):
        found = None if app.is_symlink() else re.search(r'\btop="(\w+)"', read_text(app))
        if found:
            return found[1]
    return None


def _project_top(file: Path, tops: set[str]) -> str | None:
    """hls4ml calls a project's folder after its top function."""
    names = {part.removesuffix("_prj") for part in file.parts if part.endswith("_prj")} & tops
    return names.pop() if len(names) == 1 else None


def _named(report: Synthesis, file: Path) -> Synthesis:
    """Co-simulation names its design in the file's name only."""
    if report.stage is Stage.COSIMULATION and file.name.endswith("_cosim.rpt"):
        return replace(report, design=file.name.removesuffix("_cosim.rpt"))
    return report


def _by_stage(reports: Iterable[Synthesis]) -> list[list[Synthesis]]:
    groups: dict[Stage, list[Synthesis]] = {stage: [] for stage in Stage}
    for report in reports:
        groups[report.stage].append(report)
    return [group for group in groups.values() if group]


def _with_modules(path: Path, stages: list[Synthesis]) -> list[Synthesis]:
    """C synthesis with the reports of the modules inside, which lie beside the whole one's."""
    found = []
    for stage in stages:
        whole = [path / file if path.is_dir() else path for file in stage.files]
        xml = [file for file in whole if file.name.endswith("_csynth.xml")]
        if (
            stage.stage is Stage.C_SYNTHESIS
            and len(xml) == 1
            and not stage.modules
            and path.is_dir()
        ):
            inside = [
                vitis.read_csynth_xml(read_text(file), _where(path, file))
                for file in sorted(xml[0].parent.glob("*_csynth.xml"))
                if file != xml[0] and not file.is_symlink()
            ]
            modules = (
                Module(
                    str(part.design),
                    {kind: count.used for kind, count in part.resources.items()},
                    part.latency,
                    part.interval,
                )
                for part in inside
            )
            stage = replace(stage, modules=tuple(modules))
        found.append(stage)
    return found


def _check_same_design(stages: list[Synthesis]) -> None:
    """Raises UsageError where two stages are of two designs, parts, or releases of the tools."""
    for first, second in ((a, b) for i, a in enumerate(stages) for b in stages[i + 1 :]):
        pair = f"{first.by} ({first.files[0]}) and {second.by} ({second.files[0]})"
        designs = {s.design.lower() for s in (first, second) if s.design}
        if len(designs) > 1:
            raise UsageError(f"{pair} are of two designs: {first.design} and {second.design}")
        if not same_part(first.part, second.part):
            raise UsageError(f"{pair} are for two parts: {first.part} and {second.part}")
        amd = all("HLS" in s.tool or s.tool == "Vivado" for s in (first, second))
        if amd and first.version and second.version and first.version != second.version:
            raise UsageError(f"{pair} were made by two releases of the tools; synthesize again")


def _check_dates(stages: list[Synthesis]) -> None:
    """Raises UsageError where a stage is older than one that it was made from."""
    dated = [stage for stage in stages if stage.date is not None]
    for first, second in itertools.pairwise(dated):
        assert first.date is not None and second.date is not None
        if second.date < first.date:
            raise UsageError(
                f"{second.files[0]} is stale: {second.stage.value} is of {second.date}, before "
                f"{first.stage.value} of {first.date} ({first.files[0]}); run it again"
            )


def _check_sources(path: Path, known: Iterable[Path], stages: list[Synthesis]) -> str:
    """Raises UsageError where the C sources in the folder were changed after C synthesis; gives a
    note where their times say nothing, because they are those of a copy."""
    synthesized = [file for file in known if file.name.endswith(("csynth.xml", "csynth.rpt"))]
    places = ("firmware/**/*.[ch]*", "project/firmware/**/*.[ch]*")
    sources = [file for place in places if path.is_dir() for file in sorted(path.glob(place))]
    if not synthesized or not sources:
        return ""
    reported = max(file.stat().st_mtime for file in synthesized)
    newest = max(sources, key=lambda file: file.stat().st_mtime)
    dates = [stage.date for stage in stages if stage.date is not None]
    written = {_time(date) for date in dates[:1]} | set(_text_dates(synthesized))
    if not any(abs(reported - time) <= _ZONES_S for time in written):
        return "whether the sources are older than the reports cannot be told: times are of a copy"
    if newest.stat().st_mtime > reported + _COPYING_S:
        raise UsageError(
            f"{_where(path, synthesized[0])} is stale: {_where(path, newest)} was changed after C "
            f"synthesis; synthesize again (or, if that is the time of a copy, copy with its times)"
        )
    return ""


def _text_dates(files: Iterable[Path]) -> Iterator[float]:
    """Dates in the texts beside C synthesis' XML, which has none."""
    for file in files:
        text = file.with_suffix(".rpt")
        if text.is_file() and not text.is_symlink():
            found = re.search(r"^\* Date: +(.*?) *$", read_text(text), re.MULTILINE)
            if found:
                try:
                    yield _time(datetime.strptime(found[1], "%a %b %d %H:%M:%S %Y"))
                except ValueError:
                    continue


def _time(date: datetime) -> float:
    return date.timestamp()
