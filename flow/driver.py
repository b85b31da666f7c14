"""The commands as plain functions: compile, check, run. Nothing is printed here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow import oracle
from flow.artifact import MANIFEST, locked, read_manifest, staged, write_manifest
from flow.cost import bit_operations, weight_memory
from flow.describe import describe, with_synthesis
from flow.errors import Mismatch, Unsupported, UsageError
from flow.features_snippet import FrontEnd
from flow.graph import MAX_TEXT, Graph
from flow.host import write_host
from flow.host_snippet import Host
from flow.interp import Interpreter
from flow.metric import Kind, Metric, share_interval
from flow.ops import IntArray
from flow.plan import Events, Plan, Request, Source, make_target, source_digest
from flow.qat.result import Reference, TrainResult
from flow.report.layers import layers_of
from flow.report.pages import write_pages
from flow.report.result import Report
from flow.report.run import read_run
from flow.report.vendor.folder import read_folder
from flow.roc import NAME, Roc
from flow.target import Other, Program, Simulation, Target, Trial
from flow.user_data import Labelled, read_array, read_labelled
from flow.vectors import make_vectors
from flow.verify import agreement, first_difference

SAMPLES = 512  # of the test split that a compile simulates; a check simulates all
ORACLE_VECTORS = 128  # of either end; training's own float64 reference covers all test samples
TRACED = 16  # vectors traced when outputs differ
CLASSES = 100  # of a confusion matrix in a report, at most
LOST = 0.05  # of accuracy, between the float twin and the quantized network, before a warning
NOT_RATED = (
    f"{NAME} is of whole recordings, and the simulation ran some samples only; check runs all"
)


def compile_model(request: Request, events: Events) -> Report:
    """Train if need be, lower, build, and prove that the artifact is the trained network.

    Raises:
        FlowError: one of its kinds; nothing that looks complete is left behind.
    """
    return _compile(Plan(request, events))


def check_model(request: Request, data: Path | None, events: Events) -> Report:
    """Accuracy, or AUC, and agreement over a whole test set, through interpreter and simulated
    hardware.

    Compiles first if need be. `data` is for models that bring none.

    Raises:
        FlowError: as `compile_model`; UsageError where there is no data.
    """
    plan = Plan(request, events)
    given = _given_data(plan, data)
    compiled = _compile(plan)
    graph, host = plan.imported.graph, plan.host
    labelled = _own_data(plan) if given is None else given
    codes = _quantize(host, labelled.x, f"DATA={data}")
    events.note(f"running {len(codes)} samples through the interpreter and the simulation")
    expected = Interpreter(graph).run(codes)
    found = _proven(graph, plan.target, plan.folder, codes, expected)
    spread = plan.target.spread(
        graph, plan.folder, _trial(plan, codes, labelled, _others(plan, labelled))
    )
    trained = {k: m for k, m in compiled.scores.items() if k in ("float", "quantized")}
    outputs = {"integer": expected, "simulation": found}
    scores = {
        **(trained if data is None else {}),
        **{k: _score(host, k, codes, host.scores(y), labelled) for k, y in outputs.items()},
        **spread.accuracy,
    }
    return Report(
        "check",
        plan.name,
        request.target,
        plan.folder,
        agreement(expected, found),
        {} if host.reconstructs else scores,
        list(spread.metrics),
        [*(text for text in compiled.warnings if text != NOT_RATED), *spread.warnings],
        compiled.up_to_date,
        () if host.reconstructs else _confusion(host.scores(found), labelled.y),
        plan.classes,
        scores if host.reconstructs else {},
    )


def _others(plan: Plan, truth: Labelled) -> tuple[Other, ...]:
    """The networks that the plan's is to be compared with, on the same samples."""
    found = []
    for name, about, source in plan.others:
        trial = _trial(source, source.host.quantize(truth.x), truth)
        found.append(Other(name, about, source.imported.graph, trial, source.samples))
    return tuple(found)


def _trial(
    source: Source, codes: IntArray, truth: Labelled, others: tuple[Other, ...] = ()
) -> Trial:
    """The samples, for hardware that is not the same in every piece."""
    host = source.host

    def right(outputs: IntArray, samples: IntArray) -> NDArray[np.bool_]:
        answers = host.scores(outputs).reshape(len(outputs), -1).argmax(axis=1)
        found: NDArray[np.bool_] = answers == truth.y[samples]
        return found

    hashed = hashlib.sha256(f"{source.file.sha256} {source_digest()}".encode())
    for array in (codes, truth.y):
        hashed.update(np.ascontiguousarray(array).data)
    state = source.request.runs / "chips" / f"{source.name}-{hashed.hexdigest()[:16]}"
    rated = None if host.reconstructs else right
    return Trial(codes, rated, state, source.events.note, others)


@dataclass(frozen=True, eq=False)
class Ran:
    """What an artifact computed: output codes (n, ...), and the real values they stand for;
    `errors` (n,) of a network that gives its input again, else None."""

    report: Report
    outputs: IntArray
    real: NDArray[np.float64]
    errors: NDArray[np.float64] | None = None


def run_artifact(folder: Path, array: Path) -> Ran:
    """Run a compiled artifact on a user's array: floats are quantized, integers are codes already;
    or on a .wav file, where the network takes sound.

    Raises:
        UsageError: no artifact, no array, or a shape that does not fit.
        Mismatch: the simulation differs from the reference on these inputs.
    """
    manifest = read_manifest(folder)
    try:
        if (size := (folder / "graph.json").stat().st_size) > MAX_TEXT:
            raise UsageError(
                f"{folder}: graph.json is of {size} bytes, at most {MAX_TEXT} are read"
            )
        graph = Graph.from_json((folder / "graph.json").read_text())
        host = Host.load(folder / "host.json")
        name, model = str(manifest["target"]), str(manifest["model"])
        options = {key: str(value) for key, value in manifest["options"].items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{folder} is damaged: {error!r}; compile again") from error
    target = make_target(name).with_options(options)
    x = _heard(host, array) if array.suffix.lower() == ".wav" else read_array(array)
    integers = x.dtype.kind in "iub"
    shape = graph.input.shape if integers else host.shape
    x = x[None] if x.shape == shape else x
    if x.shape[1:] != shape or not len(x):
        raise UsageError(
            f"{array}: must be of shape {shape}, alone or with a batch before it, not {x.shape}"
        )
    codes = _codes(array, x) if integers else _quantize(host, x, str(array))
    expected = Interpreter(graph).run(codes)
    outputs = _proven(graph, target, folder, codes, expected)
    same = agreement(expected, outputs)
    report = Report("run", model, name, folder, same, {}, [], [])
    errors = host.errors(codes, outputs) if host.reconstructs else None
    return Ran(report, outputs, host.dequantize(outputs), errors)


def _heard(host: Host, sound: Path) -> NDArray[np.float32]:
    """The inputs that a .wav file gives. Raises UsageError."""
    settings = host.constants.get("features")
    if settings is None:
        raise UsageError(f"{sound}: this artifact's network takes no sound; give a .npy array")
    try:
        return FrontEnd(**settings).wav(sound).reshape(-1, *host.shape)
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(str(error)) from error


def _codes(array: Path, x: NDArray[Any]) -> IntArray:
    if x.dtype == np.uint64 and int(x.max()) > np.iinfo(np.int64).max:
        raise UsageError(f"{array}: holds the integer {x.max()}, which is no code")  # it would wrap
    return x.astype(np.int64)


def _quantize(host: Host, x: NDArray[Any], where: str) -> IntArray:
    """The codes of finite reals."""
    try:
        with np.errstate(over="ignore"):  # an overflow to infinity is what is refused here
            return host.quantize(x)
    except ValueError as error:
        raise UsageError(f"{where}: holds a number too large for float32") from error


def _compile(plan: Plan) -> Report:
    plan.require_tools()
    waiting = "waiting for another compile of the same artifact"
    with locked(plan.folder, lambda: plan.events.note(waiting)):
        done = _finished(plan)
        if done is None:
            plan.events.note(f"compiling {plan.name} for {plan.request.target}")
            with staged(plan.folder) as stage:
                done = _build(plan, stage)
        plan.target.require_done(plan.folder)
        return done


def _finished(plan: Plan) -> Report | None:
    """The report of an artifact that is complete and was made from the same inputs."""
    if not (plan.folder / MANIFEST).is_file():
        return None
    try:
        if read_manifest(plan.folder)["key"] != plan.key:
            return None
        return read_run(plan.folder).told
    except (UsageError, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        plan.events.note(f"compiling again: {error}")
        return None


def _build(plan: Plan, stage: Path) -> Report:
    """Build and prove the artifact in the empty folder `stage`."""
    imported, graph, note = plan.imported, plan.imported.graph, plan.events.note
    offences = plan.target.check(graph)
    if offences:
        raise Unsupported(f"{plan.name} on {plan.request.target}", offences)
    interpreter = Interpreter(graph)
    tested = _tested(plan, interpreter)
    vectors = make_vectors(graph.input, None if tested is None else tested.codes[:SAMPLES])
    expected = interpreter.run(vectors)
    some = np.concatenate([vectors[:ORACLE_VECTORS], vectors[-ORACLE_VECTORS:]])
    trace = interpreter.trace(some)
    _check_file(plan, some, trace)
    _check_trained(plan, tested)
    _copy_model(plan, stage / "model.onnx")
    (stage / "graph.json").write_text(graph.to_json())
    np.savez_compressed(stage / "vectors.npz", inputs=vectors, expected=expected)
    write_host(stage, imported.head, imported.tail)
    note("writing and building")
    head, tail, digest = imported.head, imported.tail, plan.file.sha256
    program = Program(
        graph, head, tail, vectors, expected, digest, plan.classes, note, plan.samples
    )
    warnings = plan.target.emit(program, stage)
    note(f"running {len(vectors)} vectors")
    found = _proven(graph, plan.target, stage, vectors, expected)
    scores, rebuilds = _scores(plan, tested, found), plan.host.reconstructs
    sampled = {name: codes[:ORACLE_VECTORS] for name, codes in trace.items()}
    confusion = () if tested is None else tested.confusion(plan.host)
    report = Report(
        "compile",
        plan.name,
        plan.request.target,
        plan.folder,
        agreement(expected, found),
        {} if rebuilds else scores,
        [*_counted(graph), *plan.target.metrics(graph, stage)],
        [*_training_warnings(plan, scores), *warnings],
        classes=plan.classes,
        auc=scores if rebuilds else {},
    )
    layers = layers_of(graph, sampled, plan.target.layers(graph, stage), _twin_errors(plan))
    run = describe(plan, report, layers, sampled, confusion)
    if synthesized := plan.target.synthesized(stage):
        run = with_synthesis(run, read_folder(synthesized), plan.target.modules(stage))
    write_pages(stage, run)
    write_manifest(stage, {"key": plan.key, **plan.inputs})
    return run.told


def _twin_errors(plan: Plan) -> dict[str, float | None]:
    """How far modules are from the float twin's, where there is one."""
    errors = () if plan.trained is None else plan.trained.twin_errors
    return {error.module: error.share for error in errors}


def _copy_model(plan: Plan, path: Path) -> None:
    """Raises UsageError where the file is no longer the one that was read."""
    source = plan.file.path
    try:
        content = source.read_bytes()
    except OSError as error:
        raise UsageError(f"{source}: cannot be read any more: {error}") from error
    if hashlib.sha256(content).hexdigest() != plan.file.sha256:
        raise UsageError(f"{source} was changed during the compile; run again")
    path.write_bytes(content)


def _proven(
    graph: Graph, target: Target, folder: Path, vectors: IntArray, expected: IntArray
) -> IntArray:
    """The outputs of the artifact in `folder`; as `prove`, unless the user lets them differ."""
    simulation = target.simulation(graph, folder)
    if not target.may_differ:
        try:
            return prove(graph, simulation, vectors, expected)
        except Mismatch as error:
            raise Mismatch(f"{error}\n{target.if_it_differs}".rstrip()) from error
    found = simulation.run(vectors)
    if found.shape != expected.shape:
        raise Mismatch(f"outputs have shape {found.shape}, not {expected.shape}")
    return found


def prove(graph: Graph, simulation: Simulation, vectors: IntArray, expected: IntArray) -> IntArray:
    """The simulation's outputs, equal to the expected ones.

    Raises:
        Mismatch: they are not; the first layer and value where the two part are named.
    """
    found = simulation.run(vectors)
    same = agreement(expected, found)
    if same.matches:
        return found
    text = f"matches reference: {same}"
    if expected.shape != found.shape:
        raise Mismatch(f"{text}\noutputs have shape {found.shape}, not {expected.shape}")
    wrong = np.flatnonzero((expected != found).reshape(len(expected), -1).any(axis=1))[:TRACED]
    reference = Interpreter(graph).trace(vectors[wrong])
    first = first_difference(graph, reference, simulation.trace(vectors[wrong]), wrong)
    if first is None:
        raise Mismatch(f"{text}\nevery layer is equal when run again: the simulation is not stable")
    raise Mismatch(f"{text}\n{first}")


@dataclass(frozen=True, eq=False)
class _Tested:
    """A trained model's reference with the codes of its test samples, and what the integers give
    for them."""

    reference: Reference
    codes: IntArray
    outputs: IntArray

    def confusion(self, host: Host) -> tuple[tuple[int, ...], ...]:
        """Over all test samples; none for a network that was not trained, or of many classes or
        none."""
        labels, scores = self.reference.labels, host.scores(self.outputs)
        if labels is None or host.reconstructs or scores[0].size > CLASSES:
            return ()
        return _confusion(scores, labels)


def _tested(plan: Plan, interpreter: Interpreter) -> _Tested | None:
    """None for a model that came as a file."""
    if plan.reference is None:
        return None
    codes = plan.host.quantize(plan.reference.x)
    return _Tested(plan.reference, codes, interpreter.run(codes))


def _check_file(plan: Plan, codes: IntArray, trace: Mapping[str, IntArray]) -> None:
    """The integers must be the file's. Raises Mismatch."""
    result = oracle.check(plan.file, plan.imported, codes, trace)
    if result.near_ties:
        plan.events.note(f"{result.near_ties} of {result.vectors} vectors hold near-ties")


def _check_trained(plan: Plan, tested: _Tested | None) -> None:
    """The integers must be the trained network's, on every test sample. Raises Mismatch."""
    if tested is None:
        return
    real, outputs = tested.reference.y, tested.outputs
    half_code = np.array([float(s) / 2 for s in plan.imported.tail.scale])
    wrong = np.argwhere(~(np.abs(real - plan.host.scores(outputs)) < half_code))
    if len(wrong):
        at = tuple(int(i) for i in wrong[0])
        raise Mismatch(
            f"{plan.name}: the integer graph differs from the trained network (Brevitas, float64): "
            f"vector {at[0]}, output {at[1]}: {real[at]!r} in training, code {outputs[at]} here "
            f"({len(wrong)} of {real.size} outputs differ)"
        )


def _given_data(plan: Plan, data: Path | None) -> Labelled | None:
    """The user's data, None for the model's own. Wrong data is refused before any training."""
    if data is None:
        if plan.recipe is None:
            raise UsageError(
                f"{plan.request.model} brings no data; give DATA=folder, .npz or .csv with labels"
            )
        return None
    shape, output = plan.ends
    labelled = read_labelled(data, shape)
    low, high = labelled.y.min(), labelled.y.max()
    if plan.recipe is not None and plan.recipe.reconstructs:
        if (low, high) != (0, 1):
            raise UsageError(
                f"DATA={data}: labels must be 0 (normal) and 1 (anomalous), some of each, as "
                f"{plan.name} has no classes, not {low} to {high}"
            )
        return labelled
    classes = int(np.prod(output))
    if low < 0 or high >= classes:
        raise UsageError(
            f"DATA={data}: labels must be from 0 to {classes - 1}, one for each output, "
            f"not {low} to {high}"
        )
    return labelled


def _own_data(plan: Plan) -> Labelled:
    """The model's own test split. Raises UsageError where it has none."""
    reference = plan.reference
    assert reference is not None
    if reference.labels is None:
        raise UsageError(
            f"{plan.name} is built with untrained=true and brings no data; give DATA=folder, .npz "
            f"or .csv with labels, or train it"
        )
    return Labelled(reference.x, reference.labels, reference.recordings)


def _scores(plan: Plan, tested: _Tested | None, found: IntArray) -> dict[str, Metric]:
    """Every stage's accuracy, or AUC, on the test split; of the simulation on the samples that it
    ran, but no AUC of a part of them. None for a model without data."""
    trained = plan.trained
    if trained is None or tested is None or tested.reference.labels is None:
        return {}
    host, reference = plan.host, tested.reference
    truth = Labelled(reference.x, tested.reference.labels, reference.recordings)
    scores = {
        "float": _twin_score(trained),
        "quantized": _score(host, "quantized", tested.codes, reference.y, truth),
        "integer": _score(host, "integer", tested.codes, host.scores(tested.outputs), truth),
    }
    count = min(SAMPLES, len(truth.y))
    if count < len(truth.y) and host.reconstructs:
        return scores
    ran = Labelled(truth.x[:count], truth.y[:count], truth.recordings)
    real = host.scores(found[:count])
    simulated = _score(host, "simulation", tested.codes[:count], real, ran, len(truth.y))
    return {**scores, "simulation": simulated}


def _twin_score(trained: TrainResult) -> Metric:
    if trained.float_roc is not None:
        return trained.float_roc.metric("float")
    assert trained.float_accuracy is not None  # it has labels
    hits = round(trained.float_accuracy * trained.test_samples)
    return _share("float", hits, trained.test_samples)


def _score(
    host: Host,
    stage: str,
    codes: IntArray,
    real: NDArray[np.float64],
    truth: Labelled,
    of: int | None = None,
) -> Metric:
    """How good the outputs `real` of the input codes are."""
    if not host.reconstructs:
        return _accuracy(stage, real, truth.y, of)
    alone = np.arange(len(truth.y)) if truth.recordings is None else truth.recordings
    return Roc.of_parts(host.differences(codes, real), truth.y, alone).metric(stage)


def _training_warnings(plan: Plan, scores: dict[str, Metric]) -> list[str]:
    """Says where there was no training, quantization cost much, or a stage is not rated."""
    if plan.recipe is not None and plan.recipe.untrained:
        return ["untrained: seeded random weights and inputs, there is no accuracy"]
    if not scores:
        return []
    found = [] if "simulation" in scores else [NOT_RATED]
    lost = scores["float"].value - scores["quantized"].value
    if lost > LOST:
        cost = (
            f"{lost:.2f} of {NAME}"
            if plan.host.reconstructs
            else (f"{100 * lost:.1f} points of accuracy")
        )
        found.append(
            f"quantization cost {cost}; use more bits, more epochs, or a smaller learning_rate"
        )
    return found


def _accuracy(
    stage: str, real: NDArray[np.float64], labels: NDArray[np.int64], of: int | None = None
) -> Metric:
    """The share of samples with the highest score at their label; `of` is how many the test split
    has where these are not all."""
    hits = int((real.reshape(len(real), -1).argmax(axis=1) == labels).sum())
    return _share(stage, hits, len(labels), of)


def _confusion(real: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    """How often each true class (row) was answered with each class (column)."""
    flat = real.reshape(len(real), -1)
    counts = np.zeros((flat.shape[1], flat.shape[1]), dtype=np.int64)
    np.add.at(counts, (labels, flat.argmax(axis=1)), 1)
    return tuple(tuple(int(count) for count in row) for row in counts)


def _share(stage: str, hits: int, total: int, of: int | None = None) -> Metric:
    part = f", the first {total} of {of}; check runs all" if of not in (None, total) else ""
    return Metric(
        f"accuracy {stage}",
        hits / total,
        "1",
        Kind.MEASURED,
        f"{hits} of {total} test samples{part}",
        share_interval(hits, total),
    )


def _counted(graph: Graph) -> list[Metric]:
    """What the graph itself tells."""
    macs = sum(node.op.macs(*graph.shapes(node)) for node in graph.nodes)
    counted = "counted in the integer graph"
    products = "weights that are not 0 * positions * bits of weight and input"
    rows = (
        ("macs", macs, "1", counted),
        ("bit operations", sum(bit_operations(graph).values()), "1", f"{counted}: {products}"),
        ("weight memory", sum(weight_memory(graph).values()), "bits", f"{counted}, without biases"),
    )
    return [Metric(name, n, unit, Kind.MEASURED, source) for name, n, unit, source in rows]
