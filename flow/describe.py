"""What a compile's plan tells for its report: what made the artifact, and how to make it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from flow.ops import IntArray
from flow.options import show_value
from flow.plan import Plan, is_path
from flow.qat.recipe import option_names
from flow.report.layers import Histogram, Layer
from flow.report.result import Report
from flow.report.run import Origin, Run
from flow.report.vendor.folder import Found
from flow.target import node_of


def describe(
    plan: Plan,
    report: Report,
    layers: tuple[Layer, ...],
    trace: Mapping[str, IntArray],
    confusion: tuple[tuple[int, ...], ...],
) -> Run:
    """The run of a compile; `trace` holds the values of the samples that `layers` were made of."""
    value = plan.imported.graph.input
    codes = trace[value.name]
    tested = plan.reference is not None
    kind = "test samples" if tested else "corners of the input's range and random inputs"
    why = "" if tested else ": the file brings no data"
    return Run(
        report,
        _origin(plan),
        f"the first {len(codes)} test vectors ({kind}{why})",
        layers,
        Histogram.of(codes, value.qtype.low, value.qtype.high),
        str(value.qtype),
        value.shape,
        confusion,
        "the integer network on all test samples" if confusion else "",
        _twin(plan),
    )


def with_synthesis(run: Run, found: Found, modules: Mapping[str, str]) -> Run:
    """The run with what vendor tools reported; `modules` are as the target tells them."""
    owner = {name: layer.name for layer in run.layers for name in layer.nodes}
    words = {word: node_of(made, owner) for word, made in modules.items()}

    def layer_of(module: str) -> tuple[str, str] | None:
        held = {word for word in re.findall(r"[a-z]+\d+", module) if words.get(word)}
        if len(held) != 1:
            return None  # of no layer, or of several that became one
        (word,) = held
        return owner[str(words[word])], word

    return replace(run, synthesis=found.with_layers(layer_of))


def _twin(plan: Plan) -> str:
    """What distances from the float twin are over, or why there are none."""
    trained = plan.trained
    if trained is None:
        return "none: the network came as a file, without the float network that it was made from"
    if not trained.twin_samples:
        return (
            "not known: the training is of an older bitwright; remove its folder under models to "
            "train again"
        )
    drawn = "random" if plan.recipe is not None and plan.recipe.untrained else "test"
    return f"the first {trained.twin_samples} {drawn} samples"


def _origin(plan: Plan) -> Origin:
    request = plan.request
    given = tuple(f"{key}={value}" for key, value in request.options.items())
    # A file by its name alone: an artifact does not tell where it was made, and can be moved.
    model = f"./{Path(request.model).name}" if is_path(request.model) else request.model
    command = {"MODEL": model, "TARGET": request.target, "OPTS": " ".join(given)}
    if request.data is not None:
        command["DATA"] = request.data.name
    recipe = plan.recipe
    own = {} if recipe is None else {key: getattr(recipe, key) for key in option_names(recipe)}
    shown = {key: str(show_value(value)) for key, value in own.items()}
    head, tail = plan.imported.head, plan.imported.tail
    before = [f"{step.kind.value} before the first quantizer" for step in head.steps]
    after = [f"{function.value} after the last layer" for function in tail.functions]
    return Origin(
        {key: value for key, value in command.items() if value},
        {**shown, **{key: str(value) for key, value in plan.target.options().items()}},
        given,
        plan.file.sha256,
        str(plan.inputs["source"]),
        plan.key,
        {key: value or "not installed" for key, value in plan.inputs["versions"].items()},
        _training(plan),
        (*before, *after),
    )


def _training(plan: Plan) -> dict[str, str]:
    trained = plan.trained
    if trained is None:
        return {}
    return {
        "seed": str(trained.seed),
        "recipe": trained.digest,
        "data": trained.data,
        **dict(trained.versions),
    }
