"""The `bitwright` command: parsing, printing, exit codes. Start-up imports nothing heavy."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from flow.errors import FlowError, UsageError

if TYPE_CHECKING:
    from flow.plan import Events, Request
    from flow.progress import Bar
    from flow.qat.result import Progress
    from flow.report.result import Report
    from flow.report.runs import Found

DESCRIPTION = """\
Takes a quantization-aware-trained network to edge hardware, and proves that the result computes the
trained network's own integers.

exit codes: 0 done, 2 wrong use, 3 a tool or package is missing, 4 differs from the reference,
5 unsupported by this target, 6 does not fit the part or misses the clock, 7 a comparison crossed
its --fail-if, 1 anything else
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    command: Callable[[argparse.Namespace], int] = args.run
    try:
        with _stoppable():
            code = command(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        return 1
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        message, code = _explain(error)
        print(f"bitwright: error: {message}", file=sys.stderr)
        return code


def _explain(error: Exception) -> tuple[str, int]:
    """The message and exit code for whatever stopped a command."""
    if isinstance(error, FlowError):
        return str(error), error.exit_code
    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or "?").split(".")[0]
        return f"the package {missing} is not installed. Get it: pip install bitwright", 3
    if isinstance(error, MemoryError):
        return f"not enough memory: {error or 'none was left'}", 1
    if isinstance(error, OSError):
        return f"{error} (--debug shows where)", 1
    what = f"{type(error).__name__}: {error}"
    return f"{what}. This is a bug in bitwright, not in your input; --debug shows where", 1


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP unwind the command as Ctrl-C does, so that it clears up and stops the
    programs that it started."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    changed: list[signal.Signals] = []
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP: leave it so
                with contextlib.suppress(ValueError):  # not the main thread: not ours to decide
                    signal.signal(number, stop)
                    changed.append(number)
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bitwright",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    compile_ = commands.add_parser("compile", help="compile a model for a target and prove it")
    _add_model(compile_, _compile)
    compile_.add_argument("--data", type=Path, help="folder with the files of the model's data set")
    check = commands.add_parser(
        "check", help="accuracy or AUC on simulated hardware, whole test set"
    )
    _add_model(check, _check)
    check.add_argument("--data", type=Path, help="folder, .npz or .csv, for models without data")
    run = commands.add_parser("run", help="run a compiled artifact on an array")
    run.add_argument("--artifact", type=Path, required=True, help="the artifact's folder")
    run.add_argument("--input", type=Path, required=True, help=".npy: floats or codes; or .wav")
    run.add_argument("--output", type=Path, help="write the real-valued outputs to this .npy")
    run.add_argument("--json", action="store_true", help="one JSON object as the last line")
    run.set_defaults(run=_run)
    floats = commands.add_parser("float-check", help="the network against a float32 runtime")
    _add_model(floats, _float_check, target=False)
    floats.add_argument(
        "--tool",
        default="",
        help="onnxruntime or qonnx (default: what knows the file's operations)",
    )
    floats.add_argument("--data", type=Path, help="samples of a file; a model's data set")
    experiment = commands.add_parser(
        "experiment", help="what a rule, a format or a training is worth, over paired seeds"
    )
    experiment.add_argument("name", help="daq_vs_ste, or another one (a wrong name lists them)")
    experiment.set_defaults(run=_experiment)
    pareto = commands.add_parser("pareto", help="accuracy against bit operations")
    pareto.add_argument("model", help="a model's name")
    pareto.add_argument("--accuracy", default="", help="name the cheapest point with this percent")
    pareto.add_argument("--weights", help="bops_weight of the learned points: '0.5 2'")
    pareto.add_argument("--uniform", help="bits of the uniform points: '3 4'")
    pareto.add_argument("--seeds", type=int, help="seeds of every point, from 0 on")
    pareto.add_argument("--no-floor", action="store_true", help="no points with rounding=floor")
    pareto.set_defaults(run=_pareto)
    for searching in (experiment, pareto):
        _add_places(searching)
        searching.add_argument(
            "--tables", type=Path, default=Path("reports/baseline"), help="folder of the table"
        )
    schedule = commands.add_parser(
        "schedule", help="which processor, clock and variant to run each request of a trace on"
    )
    schedule.add_argument("--platform", required=True, help="a name, or a .toml file")
    schedule.add_argument(
        "--trace", required=True, help="poisson:mean_ms=120,n=100000,deadline_ms=60, or a .csv"
    )
    schedule.add_argument(
        "--models", required=True, help="folders of artifacts, parted by commas, or a .toml file"
    )
    schedule.add_argument(
        "--opts", default="", metavar='"KEY=VALUE ..."', help="options, and the platform's numbers"
    )
    schedule.add_argument("--out", type=Path, help="the report's folder (default: under --runs)")
    _add_places(schedule)
    schedule.set_defaults(run=_schedule)
    report = commands.add_parser(
        "report", help="a run's page, the index of all runs, or what vendor tools made of a design"
    )
    report.add_argument("--artifact", help="a run's folder or name (default: index of all)")
    report.add_argument("--synth", help="folder that was synthesized, from --artifact if given")
    report.add_argument("--json", action="store_true", help="one JSON object as the last line")
    report.add_argument("--runs", type=Path, default=Path("reports/runs"), help="results' folder")
    report.set_defaults(run=_report)
    compare = commands.add_parser("compare", help="two or more runs side by side")
    compare.add_argument("names", nargs="*", metavar="RUN", help="folders, or names under --runs")
    compare.add_argument("--set", default="", metavar='"RUN ..."', help="more of them")
    compare.add_argument("--runs", type=Path, default=Path("reports/runs"), help="results' folder")
    compare.add_argument("--out", type=Path, help="the page (default: compare.html under --runs)")
    compare.add_argument(
        "--fail-if", default="", metavar='"lut>+5%%"', help="exit with 7 where B crosses a limit"
    )
    compare.set_defaults(run=_compare)
    estimate = commands.add_parser("estimate", help="what a model will cost, before any training")
    _add_model(estimate, _estimate, target=False)
    estimate.add_argument("--target", default="", help="a target's name (default: all of them)")
    estimate.add_argument(
        "--sweep", metavar='"KEY=VALUES ..."', help="many options at once: reuse_factor=1..64*2"
    )
    estimate.add_argument("--front", default="", help="figures that the best of them are chosen by")
    estimate.add_argument("--out", type=Path, help="a sweep's folder (default: under --runs)")
    labels = commands.add_parser("labels", help="synthesize single layers, to fit estimates on")
    labels.add_argument("--count", type=int, default=1650, help="kernels to draw (default 1650)")
    labels.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    labels.add_argument("--out", type=Path, default=Path("flow/surrogate/labels.csv"))
    labels.add_argument("--scheduler", default="", help="address of a Dask scheduler")
    labels.add_argument("--processes", type=int, default=0, help="of this machine (default: all)")
    labels.set_defaults(run=_labels)
    names = commands.add_parser("list", help="models, targets and their options")
    names.set_defaults(run=_list)
    doctor = commands.add_parser("doctor", help="every program and package: found, version, use")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_model(
    parser: argparse.ArgumentParser,
    command: Callable[[argparse.Namespace], int],
    target: bool = True,
) -> None:
    parser.add_argument("--model", required=True, help="a model's name, or a path to an .onnx file")
    if target:
        parser.add_argument("--target", required=True, help="a target's name")
        parser.add_argument(
            "--out", type=Path, help="the artifact's folder (default: under --runs)"
        )
    else:
        parser.set_defaults(target="", out=None)
    parser.add_argument(
        "--opts", default="", metavar='"KEY=VALUE ..."', help="options of model and target"
    )
    _add_places(parser)
    parser.set_defaults(run=command)


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=Path("reports/runs"), help="results' folder")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")


def _request(args: argparse.Namespace, data: Path | None = None) -> Request:
    from flow.options import split_assignments
    from flow.plan import Request

    options = split_assignments(args.opts)
    return Request(args.model, args.target, options, args.out, args.runs, data)


def _compile(args: argparse.Namespace) -> int:
    from flow.driver import compile_model

    with _Display() as display:
        report = compile_model(_request(args, args.data), display.events())
    _print_report(report, args.json)
    return 0


def _check(args: argparse.Namespace) -> int:
    from flow.driver import check_model

    with _Display() as display:
        report = check_model(_request(args), args.data, display.events())
    _print_report(report, args.json)
    return 0


def _float_check(args: argparse.Namespace) -> int:
    from flow.float_check import float_check

    with _Display() as display:
        compared = float_check(_request(args, args.data), args.tool, display.events())
    print(json.dumps(compared.to_json()) if args.json else compared)
    return 0


def _experiment(args: argparse.Namespace) -> int:
    from flow.noise_experiment import NAME, run_noise_experiment
    from flow.options import unknown_name
    from flow.qat.experiments import EXPERIMENTS, run_experiment

    if args.name not in (names := (*EXPERIMENTS, NAME)):
        raise unknown_name("experiment", args.name, names)
    with _Display() as display:
        note = display.events().note
        if args.name == NAME:
            found = run_noise_experiment(args.runs, args.tables, note)
        else:
            found = run_experiment(args.name, args.runs, args.tables, note)
    print(json.dumps(found.to_json()) if args.json else found)
    return 0


def _pareto(args: argparse.Namespace) -> int:
    from flow.pareto import SEEDS, UNIFORM, WEIGHTS, Search, search

    given = Search(
        args.model,
        WEIGHTS if args.weights is None else args.weights.split(),
        UNIFORM if args.uniform is None else args.uniform.split(),
        SEEDS if args.seeds is None else args.seeds,
        not args.no_floor,
    )
    accuracy = _percent(args.accuracy)
    with _Display() as display:
        found = search(given, accuracy, args.runs, args.tables, display.events())
    print(json.dumps(found.to_json()) if args.json else found)
    return 0


def _schedule(args: argparse.Namespace) -> int:
    from flow.options import split_assignments
    from flow.schedule_plan import ScheduleRequest
    from flow.scheduling import make_schedule

    options = split_assignments(args.opts)
    given = ScheduleRequest(args.platform, args.trace, args.models, options, args.out, args.runs)
    with _Display() as display:
        told = make_schedule(given, display.events())
    print(json.dumps(told.body) if args.json else told.text)
    return 0


def _percent(text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise UsageError(f"ACCURACY must be percent, from 0 to 100, not {text!r}")
    return value


def _run(args: argparse.Namespace) -> int:
    import numpy as np

    from flow.artifact import writing_to
    from flow.driver import run_artifact

    output: Path | None = args.output
    if output is not None and output.suffix != ".npy":
        raise UsageError(f"--output {output}: must end in .npy")
    if output is not None and not output.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {output.parent}")
    ran = run_artifact(args.artifact, args.input)
    if output is not None:
        part = output.with_name(f".{output.stem}.part.npy")
        with writing_to(output):
            try:
                np.save(part, ran.real)
                part.replace(output)
            finally:
                part.unlink(missing_ok=True)
    if ran.errors is None:
        best = ran.real.reshape(len(ran.real), -1).argmax(axis=1)
        extra, said = {"argmax": best.tolist()}, [f"argmax {int(at):3d}" for at in best]
    else:
        mean = float(ran.errors.mean())
        extra = {"errors": ran.errors.tolist(), "error": mean}
        said = [f"error {error:8.4g}" for error in ran.errors]
    if args.json:
        print(json.dumps({**ran.report.to_json(), "outputs": ran.outputs.tolist(), **extra}))
        return 0
    print(f"matches reference: {ran.report.agreement}")
    if ran.errors is not None:
        print(f"mean squared error of {len(ran.errors)} reconstructed inputs: {mean:.6g}")
    for index, (real, told) in enumerate(zip(ran.real[:20], said, strict=False)):
        values = " ".join(f"{value:.4g}" for value in real.reshape(-1)[:12])
        print(f"{index:6d}  {told}  {values}")
    if len(ran.real) > 20:
        print(f"   ... {len(ran.real) - 20} more; --output FILE.npy writes them all")
    return 0


def _report_synthesis(args: argparse.Namespace) -> int:
    from flow.review import run_folder
    from flow.synthesis_report import report_synthesis

    if not args.synth:
        raise UsageError("SYNTH must be a folder that vendor tools wrote their reports into")
    artifact = None if args.artifact is None else run_folder(args.artifact, args.runs)
    report = report_synthesis(Path(args.synth), artifact)
    print(json.dumps(report.to_json()) if args.json else report.text())
    report.require_fit()
    return 0


def _report(args: argparse.Namespace) -> int:
    from flow.review import report_all, report_run, run_folder

    if args.synth is not None:
        return _report_synthesis(args)
    if args.artifact is not None:
        run = report_run(run_folder(args.artifact, args.runs))
        _print_report(replace(run.told, up_to_date=False), args.json)
        return 0
    indexed = report_all(args.runs)
    if args.json:
        print(json.dumps(indexed.to_json()))
        return 0
    _print_found(indexed.found)
    print(f"page: {indexed.page}")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from flow.report.compare import read_limits, text
    from flow.review import check_limits, compare_runs

    if args.fail_if:
        read_limits(args.fail_if)  # before any work
    compared = compare_runs([*args.names, *args.set.split()], args.runs, args.out)
    if len(compared.runs) == 2:
        print(text(*compared.runs))
    else:
        _print_found(compared.found)
    print(f"page: {compared.page}")
    if args.fail_if:
        sys.stdout.flush()
        check_limits(args.fail_if, compared)
    return 0


def _estimate(args: argparse.Namespace) -> int:
    from flow.estimate import estimate
    from flow.sweep import CHOSEN, sweep

    if args.sweep is None and (args.front or args.out):
        raise UsageError("FRONT and OUT are of SWEEP; give options to sweep, or leave them out")
    if args.sweep is not None:
        points = sweep(_request(args), args.sweep, args.front or CHOSEN)
        print(json.dumps(points.to_json()) if args.json else points)
        return 0
    found = estimate(_request(args))
    print(json.dumps(found.to_json()) if args.json else found)
    return 0


def _labels(args: argparse.Namespace) -> int:
    from flow.labels import make_labels
    from flow.options import require_range
    from flow.surrogate.kernels import drawn

    require_range("COUNT", args.count, 1, 100_000)
    require_range("PROCESSES", args.processes, 0, 1024)
    require_range("SEED", args.seed, 0, 2**32 - 1)
    kernels = drawn(args.count, args.seed)
    with _Display() as display:
        note = display.events().note
        made = make_labels(args.out, kernels, args.scheduler, args.processes, note)
    print(made)
    return 0


def _list(args: argparse.Namespace) -> int:
    from flow.importer import OPERATIONS
    from flow.options import option_types, show_value
    from flow.qat.recipe import LAYER_FIELDS, option_names
    from models import MODELS
    from targets import TARGETS

    for name, make in MODELS.items():
        recipe = make()
        print(f"model {name}: input {recipe.input_shape}, data {recipe.data}")
        for row in recipe.summary():
            bits = f", weights {row.weight} bit" if row.weight else ""
            act = f", outputs {row.act} bit" if row.act else ""
            print(f"    {row.name:10} {row.kind:10} {row.output_shape!s:14}{bits}{act}")
        settings = (f"{key}={show_value(getattr(recipe, key))}" for key in option_names(recipe))
        print(f"    options: {' '.join(settings)}")
        print(f"    options of one layer: LAYER.{', LAYER.'.join(LAYER_FIELDS)}")
    read = ", ".join(sorted({name for name, _ in OPERATIONS}))
    print(textwrap.fill(f"operations read from ONNX files: {read}", 100, subsequent_indent="    "))
    for name, load in TARGETS.items():
        target = load()()
        print(f"target {name}")
        for key in option_types(type(target)):
            print(f"    {key}={show_value(getattr(target, key))}")
        if target.layer_options:
            print(f"    options of one layer: LAYER.{', LAYER.'.join(target.layer_options)}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from flow.doctor import doctor

    for found in doctor():
        mark, version = ("ok     ", found.version) if found.version else ("missing", "")
        print(f"{mark} {found.name:14} {version or '':18} {found.enables}")
        if found.version is None:
            print(f"        {'':14} {'':18} get it: {found.get}")
    return 0


def _print_found(found: Sequence[Found]) -> None:
    width = max((len(each.folder.name) for each in found), default=0)
    for each in found:
        print(f"{each.folder.name:{width}}  {each.summary}")


def _print_report(report: Report, as_json: bool) -> None:
    from flow.report.text import render

    print(json.dumps(report.to_json()) if as_json else render(report))


class _Display:
    """Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def events(self) -> Events:
        from flow.plan import Events

        return Events(note=self._note, training=self._training)

    def _note(self, text: str) -> None:
        self._close()
        print(text, file=sys.stderr)

    def _training(self, progress: Progress) -> None:
        if self._bar is None:
            from flow.progress import Bar

            self._bar = Bar()
        self._bar.show(progress)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
