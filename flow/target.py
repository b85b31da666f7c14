"""What a target is: a frozen dataclass whose fields are its options, and what it must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from flow.errors import Offence, UsageError
from flow.graph import Graph
from flow.importer import HostInput, HostOutput
from flow.metric import Metric, Told
from flow.ops import IntArray
from flow.options import option_types, parse_value, show_value, unknown_name, with_options
from flow.outline import Outline
from flow.spans import Swept
from flow.tools import Tool


@dataclass(frozen=True, eq=False)
class Program:
    """What a target receives: the network on integers, the host's part at both ends, and test
    vectors (codes (n, *input shape)) with the outputs that the reference gives for them. `source`
    is the sha256 of the file that it came from; `classes` names the outputs, where known; `note`
    tells the user what takes long; `samples` gives codes of training samples, none of which are
    among those that accuracy is told of, for what is calibrated; None where there are none."""

    graph: Graph
    head: HostInput
    tail: HostOutput
    vectors: IntArray
    expected: IntArray
    source: str = ""
    classes: tuple[str, ...] = ()
    note: Callable[[str], None] = lambda _: None
    samples: Callable[[], IntArray | None] = lambda: None


class Matrix(NamedTuple):
    """The weights of one layer, as one product takes them: for a `convolved` layer the product of
    one position."""

    inputs: int
    outputs: int
    convolved: bool


@dataclass(frozen=True)
class Design:
    """What a target has synthesized: its top module, the part, and the clock's period."""

    top: str
    part: str
    clock_ns: float


@dataclass(frozen=True)
class LayerNote:
    """What a target says of one node of the graph: how it rounds there, the bits of the multiplier
    and of the accumulator it has, and figures such as resources and cycles. Figures of the nodes of
    one layer are added."""

    requant: str = ""
    multiplier_bits: int | None = None
    accumulator_bits: int | None = None
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True, eq=False)
class Trial:
    """Labelled samples for hardware that is not the same in every piece: input codes (n, *input
    shape). `right(outputs, samples)` tells which output codes (m, *output shape), of the samples
    with these numbers (m,), are right; None where answers are not right or wrong. What took long
    may be kept in the folder `state`, which is of this network and these samples. `others` are to
    be compared with, on the same pieces."""

    codes: IntArray
    right: Callable[[IntArray, IntArray], NDArray[np.bool_]] | None
    state: Path
    note: Callable[[str], None] = lambda _: None
    others: tuple[Other, ...] = ()


@dataclass(frozen=True, eq=False)
class Other:
    """Another network for the same task: `about` says how it was made, `trial` has the same samples
    in its codes, and `samples` are as in `Program`."""

    name: str
    about: str
    graph: Graph
    trial: Trial
    samples: Callable[[], IntArray | None]


@dataclass(frozen=True, eq=False)
class Noise:
    """What hardware of which no piece is like another makes of weights, for training through it.

    `draw(layer, weights, seed, number)` gives the integer weights (groups, outputs, inputs) of a
    layer as one piece has them, float64 in the same steps: of the same arguments the same numbers,
    of another seed or number another piece, and none that a `Trial` is of. `identity` names all
    that decides them.
    """

    identity: str
    draw: Callable[[str, IntArray, int, int], NDArray[np.float64]]


@dataclass(frozen=True)
class Spread:
    """What is known of pieces that differ: accuracies by what they are of, in order, and more."""

    accuracy: Mapping[str, Metric] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    warnings: tuple[str, ...] = ()


def node_of(made: str, nodes: Collection[str]) -> str | None:
    """The node after which something that a target made is called: the node's name, or that with
    `_` and more behind it; None where it is called after none."""
    name = made
    while name and name not in nodes:
        name = name.rpartition("_")[0]
    return name or None


class Simulation(Protocol):
    """A built artifact that can be run on this machine."""

    def run(self, codes: IntArray) -> IntArray:
        """Output codes (n, *output shape) of input codes (n, *input shape), both in the graph's
        layout."""

    def trace(self, codes: IntArray) -> Mapping[str, IntArray]:
        """The values of the graph that the artifact has, by name, in the graph's layout."""


@dataclass(frozen=True)
class Target(ABC):
    """A way to hardware. Subclasses add their options as fields, check ranges in __post_init__.

    `overrides` holds (layer, option, value) for the options named in `layer_options`.
    """

    name: ClassVar[str]
    layer_options: ClassVar[tuple[str, ...]] = ()
    if_it_differs: ClassVar[str] = ""  # what the user can do then

    overrides: tuple[tuple[str, str, Any], ...] = ()

    @abstractmethod
    def check(self, graph: Graph) -> list[Offence]:
        """Everything in the graph that this target cannot do exactly; runs no tool."""

    def check_matrices(self, matrices: Mapping[str, Matrix]) -> None:  # noqa: B027
        """Raises UsageError where a layer's option does not fit its weights; asked before any
        training, and again with the graph."""

    @abstractmethod
    def tools(self) -> tuple[Tool, ...]:
        """The external programs that a compile with these options needs."""

    @abstractmethod
    def packages(self) -> tuple[str, ...]:
        """The Python distributions that decide the artifact's content."""

    def files(self) -> tuple[Path, ...]:
        """Files of the user's, named by options, that decide the artifact's content.

        Raises:
            UsageError: one of them is not there or not right.
        """
        return ()

    @abstractmethod
    def emit(self, program: Program, folder: Path) -> list[str]:
        """Write and build the artifact in the empty `folder`; gives warnings for the user.

        Raises:
            ToolMissing, ToolFailed: a program is not there or fails.
        """

    @abstractmethod
    def simulation(self, graph: Graph, folder: Path) -> Simulation:
        """The artifact in `folder`, ready to run."""

    @abstractmethod
    def metrics(self, graph: Graph, folder: Path) -> list[Metric]:
        """What is known of the hardware, or of the artifact built in `folder`."""

    def estimate(self, network: Outline, graph: Graph | None) -> Told:
        """What the hardware will be, told from a network's shapes and bits, and from its weights
        where there is a `graph`, which this target can do; builds nothing and runs no tool."""
        return Told()

    def sweep(self, network: Outline, variants: Sequence[Self]) -> Swept | None:
        """As `estimate` before there are weights, of many options at once; None where no figure
        that is told then depends on options."""
        return None

    def spread(self, graph: Graph, folder: Path, trial: Trial) -> Spread:
        """What the artifact in `folder` answers on hardware of which no piece is like another; with
        nothing in it where all pieces are alike, and as they were proven."""
        return Spread()

    def host_seconds(self, graph: Graph, folder: Path, rounds: int) -> NDArray[np.float64] | None:
        """Seconds (rounds,) of single inferences of the artifact in `folder` on this machine, on
        one thread; None where this machine is not its hardware."""
        return None

    def weight_noise(self) -> Noise | None:
        """The noise that the network is to be trained through; None where that was not asked for.

        Raises:
            UsageError: one of the user's files is not there or not right.
        """
        return None

    def require_done(self, folder: Path) -> None:  # noqa: B027
        """Raises DoesNotFit where the artifact in `folder`, which stays there, falls short of what
        the options ask for, as a clock."""

    def layers(self, graph: Graph, folder: Path) -> Mapping[str, LayerNote]:
        """What is known of single nodes of the artifact in `folder`, by their names."""
        return {}

    def synthesized(self, folder: Path) -> Path | None:
        """Where a vendor's tool left its reports of the artifact in `folder`; None where none ran.
        What the reports say is not among `metrics`."""
        return None

    def modules(self, folder: Path) -> Mapping[str, str]:
        """Words that vendor tools' names of modules hold, such as `config2`, and what each was made
        for: a node's name, or that with `_` and more behind it."""
        return {}

    @property
    def design(self) -> Design | None:
        """What vendor tools are given; None where they have nothing to do."""
        return None

    @property
    def may_differ(self) -> bool:
        """Whether the user lets an artifact pass that gives other integers, if that is said."""
        return False

    def layer_option(self, layer: str, option: str) -> Any:
        """The option's value for one layer: its override, else the target's own."""
        for name, key, value in self.overrides:
            if (name, key) == (layer, option):
                return value
        return getattr(self, option)

    def with_options(self, assignments: Mapping[str, str]) -> Self:
        """A copy with options read from text; `layer.option=value` sets one layer's.

        Raises:
            UsageError: an unknown option, or a value of the wrong type or range.
        """
        types = option_types(type(self))
        plain = {key: text for key, text in assignments.items() if "." not in key}
        layered = list(self.overrides)
        for key, text in assignments.items():
            layer, dot, option = key.rpartition(".")
            if not dot:
                continue
            if option not in self.layer_options:
                raise unknown_name("layer option", option, self.layer_options)
            value = parse_value(key, types[option], text)
            with_options(self, {option: text})  # the same range check as for the whole target
            layered.append((layer, option, value))
        return replace(with_options(self, plain), overrides=tuple(layered))

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """The options that can be set for the whole target."""
        return tuple(option_types(cls))

    def check_layers(self, graph: Graph, layers: tuple[str, ...]) -> None:
        """Raises UsageError where an override names a layer that the graph has not."""
        for layer, option, _ in self.overrides:
            if layer not in layers:
                raise UsageError(f"OPTS: {layer}.{option}: {unknown_name('layer', layer, layers)}")

    def options(self) -> dict[str, Any]:
        """All options as JSON-able values, overrides as `layer.option`."""
        plain = {name: show_value(getattr(self, name)) for name in option_types(type(self))}
        layered = {f"{layer}.{key}": show_value(value) for layer, key, value in self.overrides}
        return {**plain, **layered}
