"""A request with its names resolved and its options read: everything that comes before the work."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flow import __version__, packages, tools
from flow.artifact import digest, given_folder, json_digest
from flow.errors import UsageError
from flow.host import make_host
from flow.host_snippet import Host
from flow.importer import Imported, Quantizer, import_qonnx
from flow.onnx_file import OnnxFile, read
from flow.ops import IntArray, Shape
from flow.options import unknown_name
from flow.qat import recipe as recipes
from flow.qat.data import CLASSES, Split, load
from flow.qat.once import trained
from flow.qat.recipe import Recipe
from flow.qat.result import Progress, Reference, TrainResult
from flow.qat.tuning import Tuning, digest_of
from flow.qtype import QType
from flow.target import Matrix, Target
from models import MODELS
from targets import TARGETS

SAMPLES = 512  # of the training split, that a target may calibrate with


@dataclass(frozen=True)
class Events:
    """What a caller may want to show while a command runs."""

    note: Callable[[str], None] = lambda text: None
    training: Callable[[Progress], None] = lambda progress: None


@dataclass(frozen=True)
class Request:
    """What to compile: a model's name or a path to an .onnx file, a target's name (empty where no
    target is needed), options as text, where results go (`out`: the artifact's own folder,
    otherwise one under `runs`), and the folder with the files of the model's data set, None for the
    usual places."""

    model: str
    target: str
    options: Mapping[str, str] = field(default_factory=dict)
    out: Path | None = None
    runs: Path = Path("reports/runs")
    data: Path | None = None


class Source:
    """The model of a request. Names and options are checked at once, the rest when asked for."""

    def __init__(
        self,
        request: Request,
        events: Events,
        target: Target | None = None,
        tuning: Tuning | None = None,
    ):
        """Options that are not the model's are left for the target, if there is one. `tuning`
        follows the model's training.

        Raises:
            UsageError: an unknown name, an unknown option, or a wrong value.
        """
        self.request, self.events, self.tuning = request, events, tuning
        options = dict(request.options)
        self.recipe: Recipe | None = None
        self._given: Path | None = None
        self.quantizer: Quantizer | None = None  # of the input, where the file has none
        if is_path(request.model):
            self._given = Path(request.model)
            self.name = _safe_name(self._given.stem)
            if "input" in options:
                self.quantizer = read_input_type(options.pop("input"))
            if request.data is not None:
                raise UsageError(
                    f"DATA={request.data}: {request.model} is trained already; DATA is for check"
                )
        else:
            self.name = _safe_name(request.model)
            self.recipe, options = _read_recipe(request.model, target, options)
        if target is None and options:
            known = ["input"] if self.recipe is None else recipes.option_names(self.recipe)
            raise unknown_name("option", next(iter(options)), known)
        self.left = options

    @cached_property
    def trained(self) -> TrainResult | None:
        """The training's result, trained now if need be; None for a model that came as a file."""
        if self.recipe is None:
            return None
        split = self._given_split(self.recipe)
        plain = self._train(self.recipe, split, None)
        if self.tuning is None:
            return plain
        return self._train(self.recipe, split, replace(self.tuning, start=plain.folder))

    def _train(self, recipe: Recipe, split: Split | None, tuning: Tuning | None) -> TrainResult:
        return trained(
            recipe,
            self.request.runs / "models" / f"{self.name}-{digest_of(recipe, tuning)[:8]}",
            self.request.runs / "twins",
            self.events.training,
            self.events.note,
            split,
            tuning,
        )

    def _given_split(self, recipe: Recipe) -> Split | None:
        """The data set in the folder that the user named."""
        if self.request.data is None:
            return None
        if recipe.untrained:
            raise UsageError(
                f"DATA={self.request.data}: untrained=true takes no data; leave it out"
            )
        return load(recipe.data, recipe.input_shape, self.request.data, recipe.front_end)

    @cached_property
    def reference(self) -> Reference | None:
        """What the trained network gives on its test split; None for a model from a file."""
        return None if self.trained is None else Reference.load(self.trained.reference)

    def samples(self) -> IntArray | None:
        """Codes of the first training samples; None for a model without data of its own.

        Raises:
            UsageError: the data set's files are not there any more.
        """
        recipe = self.recipe
        if recipe is None or recipe.untrained:
            return None
        split = load(recipe.data, recipe.input_shape, self.request.data, recipe.front_end)
        return self.host.quantize(split.train_x[:SAMPLES])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the outputs; none for a model that came as a file or was not trained."""
        if self.recipe is None or self.recipe.untrained:
            return ()
        names = CLASSES.get(self.recipe.data, ())
        return names if len(names) == int(np.prod(self.ends[1])) else ()

    @property
    def ends(self) -> tuple[Shape, Shape]:
        """Shapes of input and output, without training."""
        if self.recipe is not None:
            return self.recipe.input_shape, self.recipe.summary()[-1].output_shape
        return self.imported.head.shape, self.imported.graph.output.shape

    @cached_property
    def file(self) -> OnnxFile:
        """The QONNX file, read."""
        if self._given is not None:
            return read(self._given)
        assert self.trained is not None
        return read(self.trained.model)

    @cached_property
    def imported(self) -> Imported:
        """The integer graph with the host's parts."""
        imported = import_qonnx(self.file, self.name, self.quantizer)
        if self.recipe is None:
            return imported
        head = replace(imported.head, front_end=self.recipe.front_end)
        tail = replace(imported.tail, reconstructs=self.recipe.reconstructs)
        return replace(imported, head=head, tail=tail)

    @cached_property
    def host(self) -> Host:
        """The host's parts, ready to use."""
        return make_host(self.imported.head, self.imported.tail)


class Plan(Source):
    """What a request for a target means."""

    def __init__(self, request: Request, events: Events):
        """Raises UsageError for an unknown name, an unknown option, or a wrong value."""
        target = make_target(request.target)
        super().__init__(request, events, target)
        self.target = target.with_options(self.left)
        if self.recipe is not None:
            self.target.check_matrices(_matrices(self.recipe))
        if (noise := self.target.weight_noise()) is not None:
            _require_tunable(request.model, self.recipe)
            self.tuning = Tuning(noise)

    @cached_property
    def others(self) -> tuple[tuple[str, str, Source], ...]:
        """What a network that was trained through noise is to be compared with: each one's name,
        how it was made, and its source."""
        if self.tuning is None:
            return ()
        ways = (
            ("before", "before it was trained on", None),
            ("control", "trained on as long without noise", Tuning(None)),
        )
        target = make_target(self.request.target)
        return tuple(
            (name, about, Source(self.request, self.events, target, tuning))
            for name, about, tuning in ways
        )

    def require_tools(self) -> None:
        """Raises ToolMissing before any work where a program or package is not there."""
        for tool in self.target.tools():
            tools.require(tool)
        for package in (*self.target.packages(), *packages.REPORTS):
            packages.require(package)

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """All that decides the artifact's content, JSON-able."""
        used = (*self.target.packages(), *packages.REPORTS)
        versions = {name: packages.version(name) for name in used}
        programs = {tool.name: tools.version(tool) for tool in self.target.tools()}
        return {
            "onnx": self.file.sha256,
            "model": self.name,
            "target": self.request.target,
            "options": self.target.options(),
            "files": {path.name: digest(path) for path in self.target.files()},
            "input": self.request.options.get("input"),
            "features": self.host.constants.get("features"),
            "versions": {"bitwright": __version__, **versions, **programs},
            "source": source_digest(),
        }

    @cached_property
    def key(self) -> str:
        """sha256 over `inputs`, hex."""
        return json_digest(self.inputs)

    @cached_property
    def folder(self) -> Path:
        """Where the artifact goes. Raises UsageError where OUT holds something else."""
        out = self.request.out
        if out is None:
            return self.request.runs / f"{self.name}-{self.request.target}-{self.key[:8]}"
        return given_folder(out)


def _require_tunable(model: str, recipe: Recipe | None) -> None:
    """Raises UsageError where there is no training to go on with, or none that chips are rated
    after."""
    if recipe is None:
        raise UsageError(
            f"option noise_aware: {model} is trained already, and its file does not tell how; "
            f"leave it out, or give a model by its name"
        )
    if recipe.untrained:
        raise UsageError("option noise_aware: untrained=true trains nothing; leave one of them out")
    if recipe.reconstructs:
        raise UsageError(
            f"option noise_aware: chips are rated by accuracy, which {recipe.name} has none of; "
            f"leave it out"
        )


def read_input_type(text: str) -> Quantizer:
    """`fixed<8,3>` (8 bits, 3 of them left of the binary point, signed) or `ufixed<8,0>`: how the
    input of a file that does not quantize it is quantized, rounding half to even and saturating.

    Raises:
        UsageError: the text is neither.
    """
    match = re.fullmatch(r"(u?)fixed<(\d{1,2}),(-?\d{1,2})>", text)
    if match is None or not 2 <= int(match[2]) <= 16:
        raise UsageError(
            f"option input must be like fixed<8,3> or ufixed<8,0>, with 2 to 16 bits, not {text!r}"
        )
    bits, integer = int(match[2]), int(match[3])
    step = np.float32(2.0 ** (integer - bits))
    return Quantizer(np.array(step), 0, QType(bits, signed=not match[1]))


def make_target(name: str) -> Target:
    """The target of that name with its default options. Raises UsageError."""
    if name not in TARGETS:
        raise unknown_name("target", name, TARGETS)
    return TARGETS[name]()()


def _read_recipe(
    name: str, target: Target | None, options: dict[str, str]
) -> tuple[Recipe, dict[str, str]]:
    """The recipe with its options applied, and the options that are left for the target."""
    model, at, weight = name.partition("@")  # model@w: the point of its front with that bops_weight
    if model not in MODELS:
        raise unknown_name("model", model, MODELS)
    recipe = MODELS[model]()
    if at:
        options = {"bops_weight": weight, **options}
    ours = {k: v for k, v in options.items() if recipes.is_recipe_option(recipe, k)}
    rest = {k: v for k, v in options.items() if k not in ours}
    theirs = target.layer_options if target else ()
    known = (*(target.option_names() if target else ()), *recipes.option_names(recipe))
    layered = (*theirs, *recipes.LAYER_FIELDS)
    weighted = [row.name for row in recipe.summary() if row.weight is not None]
    for key in rest:
        layer, dot, option = key.rpartition(".")
        if dot and option not in theirs:
            raise unknown_name("layer option", option, layered)
        if dot and layer not in weighted:
            raise unknown_name("layer", layer, weighted)
        if not dot and key not in known:
            raise unknown_name("option", key, known)
    return recipes.apply_options(recipe, ours), rest


def _matrices(recipe: Recipe) -> dict[str, Matrix]:
    """Every layer with weights, as a target will see it."""
    shapes = {row.name: row.output_shape for row in recipe.summary()}
    shapes[recipes.INPUT] = recipe.input_shape
    found = {}
    for layer in recipe.layers:
        if isinstance(layer, recipes.Weighted):
            # A depthwise convolution's too: hls4ml reckons it, or writes it, as a full one.
            inputs = shapes[recipe.sources(layer)[0]][0] * recipes.taps(layer)
            convolved = not isinstance(layer, recipes.Dense)
            found[layer.name] = Matrix(inputs, shapes[layer.name][0], convolved)
    return found


def is_path(model: str) -> bool:
    """Whether a model is given as a file."""
    return model.lower().endswith(".onnx") or "/" in model


def _safe_name(stem: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in stem)
    return kept[:64] or "model"


def source_digest() -> str:
    """sha256 over this program's own sources: an artifact is only as old as what made it."""
    root = Path(__file__).resolve().parent.parent
    hashed = hashlib.sha256(platform.python_version().encode())
    for folder in ("flow", "targets"):
        for path in sorted((root / folder).rglob("*")):
            # Of __pycache__ not only Python's: numba keeps there what it compiles.
            if path.is_file() and not {"qat", "__pycache__"} & set(path.parts):
                hashed.update(f"{path.relative_to(root)} {digest(path)}".encode())
    return hashed.hexdigest()
