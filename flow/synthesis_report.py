"""`make report SYNTH=…`: what vendor tools made of a design, beside what an artifact expected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.artifact import digest, locked, read_manifest, write_json
from flow.describe import with_synthesis
from flow.errors import DoesNotFit, UsageError
from flow.metric import Metric
from flow.plan import make_target
from flow.report.pages import PAGE, refresh_pages
from flow.report.run import REPORT, Run, read_run
from flow.report.vendor.folder import IF_TOO_LARGE, Found, read_folder
from flow.report.vendor.text import render
from flow.target import Target

_PROJECT = "project/"  # of an artifact: what is synthesized
_SOURCES = "project/firmware/"  # of those, what decides the hardware


@dataclass(frozen=True)
class Pair:
    """What the artifact's report expects, and what a tool reported under the same name."""

    expected: Metric
    reported: Metric

    @property
    def inside(self) -> bool | None:
        """Whether the reported number lies in the expected interval; None without one."""
        around = self.expected.interval
        return None if around is None else around.low <= self.reported.value <= around.high


@dataclass(frozen=True)
class SynthesisReport:
    """What `make report SYNTH=…` found."""

    folder: Path
    found: Found
    artifact: Path | None
    pairs: tuple[Pair, ...]

    def text(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from render(self.found)
        if self.pairs:
            yield "expected by the artifact, and reported"
        for pair in self.pairs:
            name, wanted, got = pair.expected.name, pair.expected, pair.reported
            around = (
                f" [{wanted.interval.low:g}, {wanted.interval.high:g}]" if wanted.interval else ""
            )
            said = {True: "inside", False: "outside", None: "no interval"}[pair.inside]
            yield (
                f"  {name}: {wanted.value:g}{around} {wanted.unit} {wanted.kind.value}, "
                f"{got.value:g} {got.kind.value} ({said}); {got.source}"
            )
        if self.artifact is not None:
            yield f"artifact: {self.artifact} (its project's sources are those in the folder)"
            yield f"page: {self.artifact / PAGE} (has these figures now)"

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "command": "report",
            "synth": str(self.folder),
            "artifact": None if self.artifact is None else str(self.artifact),
            "stages": [stage.to_json() for stage in self.found.stages],
            "expected": [
                {
                    "expected": pair.expected.to_json(),
                    "reported": pair.reported.to_json(),
                    "inside": pair.inside,
                }
                for pair in self.pairs
            ],
            "problems": self.found.problems(),
            "warnings": list(self.found.notes),
        }

    def require_fit(self) -> None:
        """Raises DoesNotFit where the furthest stage is too large for its part, or too slow."""
        if problems := self.found.problems():
            listed = "".join(f"\n  {problem}" for problem in problems)
            raise DoesNotFit(
                f"SYNTH={self.folder}: does not fit, or misses its clock:{listed}\n{IF_TOO_LARGE}"
            )


def report_synthesis(synth: Path, artifact: Path | None) -> SynthesisReport:
    """Read the reports at `synth`. With an artifact they must be of its project; they become part
    of its report then, in place of those that were there.

    Raises:
        UsageError: no reports, or damaged, stale, or of another design, or the artifact's report is
            too old to take them.
        ToolFailed, Mismatch: the vendor's tool failed, or its co-simulation did.
    """
    found = read_folder(synth)
    if artifact is None:
        return SynthesisReport(synth, found, None, ())
    manifest = read_manifest(artifact)
    _check_sources(synth, artifact, manifest["files"])
    target = _target(artifact, manifest)
    design = target.design
    if design is None:
        raise UsageError(f"ARTIFACT={artifact}: TARGET={target.name} has nothing to synthesize")
    if differences := found.differences(design.top, design.part, design.clock_ns):
        raise UsageError(
            f"SYNTH={synth}: is of another design than {artifact}: {'; '.join(differences)}"
        )
    run = _attach(artifact, found, target.modules(artifact))
    return SynthesisReport(synth, found, artifact, tuple(_pairs(found, run.report.metrics)))


def _attach(artifact: Path, found: Found, modules: Mapping[str, str]) -> Run:
    """The artifact's run with the reports, written."""
    with locked(artifact):
        manifest = read_manifest(artifact)
        run = with_synthesis(read_run(artifact), found, modules)
        if run.origin is None:
            raise UsageError(
                f"{artifact}/{REPORT} is of an older bitwright, which has no place for these "
                f"figures; compile again"
            )
        write_json(artifact / REPORT, run.to_json())
        run = read_run(artifact)  # in the file's order, so that the pages are those of any reader
        refresh_pages(artifact, manifest, run)
    return run


def _check_sources(synth: Path, artifact: Path, files: dict[str, str]) -> None:
    """Raises UsageError unless the folder holds the artifact's sources, unchanged."""
    project = {name: sha for name, sha in files.items() if name.startswith(_PROJECT)}
    if not project:
        raise UsageError(f"ARTIFACT={artifact}: has no project that could be synthesized")
    # The whole artifact may have been taken elsewhere, or its project alone.
    root = synth / _PROJECT if (synth / _PROJECT).is_dir() else synth
    needed = [name for name in project if name.startswith(_SOURCES)] or list(project)
    for name in needed:
        file = root / name.removeprefix(_PROJECT)
        if not file.is_file():
            raise UsageError(
                f"SYNTH={synth}: cannot be told to be of {artifact}: {file} is not there; give the "
                f"artifact's project/ as it was synthesized, with its sources"
            )
        if digest(file) != project[name]:
            raise UsageError(
                f"SYNTH={synth}: is of another design than {artifact}: {file} differs from the "
                f"artifact's; synthesize the artifact's project/"
            )


def _target(artifact: Path, manifest: dict[str, Any]) -> Target:
    """The artifact's target. Raises UsageError where the manifest names none."""
    try:
        options = {key: str(value) for key, value in dict(manifest["options"]).items()}
        return make_target(str(manifest["target"])).with_options(options)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{artifact} is damaged: {error!r}; compile again") from error


def _pairs(found: Found, expected: list[Metric]) -> Iterator[Pair]:
    """Numbers of the compile that a stage has too, the furthest stage's; cycles that were simulated
    before cycles that were scheduled."""
    reported = {
        (metric.name, metric.unit): metric for stage in found.stages for metric in stage.metrics()
    }
    for metric in found.beside(expected):
        reported[metric.name, metric.unit] = metric
    for metric in expected:
        if (metric.name, metric.unit) in reported:
            yield Pair(metric, reported[metric.name, metric.unit])
