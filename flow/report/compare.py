"""Two runs side by side, what to make of it, and limits that a change must keep."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flow import roc
from flow.errors import FlowError, UsageError
from flow.metric import Interval, Kind, Metric
from flow.options import unknown_name
from flow.report import numbers
from flow.report.result import STAGES
from flow.report.run import Run

# Figures of which less is better, wherever they come from; of others nothing is concluded.
COSTS = (
    *(
        "lut",
        "lut4",
        "luts",
        "ff",
        "ffs",
        "dsp",
        "dsps",
        "bram",
        "brams",
        "bram_18k",
        "uram",
        "alm",
        "alut",
    ),
    *("mlab", "lc", "carry", "ram", "latency", "interval", "energy", "power", "multipliers"),
    *("file size", "weight memory", "constants", "macs", "bit operations", "cycles", "area"),
)
_ACCURACY = "accuracy"
_LIMIT = re.compile(r"([a-z][a-z0-9_.]*)([<>])([+-]?)([0-9]+(?:\.[0-9]+)?)(%?)", re.ASCII)


class LimitCrossed(FlowError):
    """A comparison found a change that FAIL_IF names."""

    exit_code = 7


@dataclass(frozen=True)
class Change:
    """A figure of both runs; one of them may be without it."""

    name: str
    a: Metric | None
    b: Metric | None

    @property
    def is_accuracy(self) -> bool:
        return self.name.startswith(f"{_ACCURACY} ")

    @property
    def is_score(self) -> bool:
        """Whether it tells how good the network is: of these more is better."""
        return self.is_accuracy or self.name.startswith(f"{roc.NAME} ")

    @property
    def difference(self) -> float | None:
        """b - a; of accuracies in points."""
        if self.a is None or self.b is None:
            return None
        return (self.b.value - self.a.value) * (100 if self.is_accuracy else 1)

    @property
    def share(self) -> float | None:
        """The difference as a share of a; None where a is 0."""
        if self.a is None or self.b is None or self.a.value == 0:
            return None
        return self.b.value / self.a.value - 1

    @property
    def clear(self) -> bool:
        """Whether it changed, and by more than the intervals leave open; numbers of two kinds tell
        nothing for sure."""
        if not self.difference or self.a is None or self.b is None:
            return False
        if self.mixed:
            return False
        ends = [m.interval or Interval(m.value, m.value, 1) for m in (self.a, self.b)]
        return ends[0].high < ends[1].low or ends[1].high < ends[0].low

    @property
    def mixed(self) -> bool:
        """Whether the two numbers are of two kinds."""
        return bool(self.a and self.b and self.a.kind is not self.b.kind)

    @property
    def kind(self) -> str:
        """What the two numbers are: `measured`, or `measured against assumed`."""
        kinds = [metric.kind.value for metric in (self.a, self.b) if metric is not None]
        return " against ".join(dict.fromkeys(kinds))

    @property
    def amount(self) -> str:
        """`-25.0 %`, `-0.76 points`, `only in A`."""
        if self.a is None or self.b is None:
            return "only in " + ("B" if self.a is None else "A")
        if not self.difference:
            return "the same"
        if self.is_accuracy:
            return f"{self.difference:+.2f} points"
        if self.is_score:
            return f"{self.difference:+.4f}"
        return f"{self.difference:+g}" if self.share is None else f"{100 * self.share:+.1f} %"

    @property
    def text(self) -> str:
        """The amount, and what makes it uncertain."""
        if self.mixed:
            return f"{self.amount}, {self.kind}"
        unsure = self.difference and not self.clear
        return f"{self.amount}, intervals overlap" if unsure else self.amount


def changes(a: Run, b: Run) -> list[Change]:
    """Accuracy or AUC at every stage, then every figure once: as measured where both were, else as
    estimated, else as assumed; where there is no such kind, the best that each has."""
    names = dict.fromkeys(run.report.score for run in (a, b) if run.report.scores)
    found = []
    for name in names:
        each = [run.report.scores if run.report.score == name else {} for run in (a, b)]
        stages = [s for s in STAGES if s in each[0] or s in each[1]]
        found += [Change(f"{name} {s}", each[0].get(s), each[1].get(s)) for s in stages]
    tables = [numbers.by_name(run.told.metrics) for run in (a, b)]
    for name in dict.fromkeys((*tables[0], *tables[1])):
        both = [table.get(name, {}) for table in tables]
        shared = [kind for kind in Kind if kind in both[0] and kind in both[1]]
        found.append(Change(name, *(_best(each, shared) for each in both)))
    return found


def _best(of_kinds: Mapping[Kind, Metric], shared: Sequence[Kind]) -> Metric | None:
    kind = next((kind for kind in shared or Kind if kind in of_kinds), None)
    return None if kind is None else of_kinds[kind]


def options_changed(a: Run, b: Run) -> list[tuple[str, str, str]]:
    """What differs of model, target and options: name, value in a, value in b; `-` where one has
    none. Of options that one of two targets or models has not, those that were set."""
    tables: list[dict[str, str]] = []
    set_: set[str] = set()
    for run in (a, b):
        origin = run.origin
        given = dict(entry.split("=", 1) for entry in origin.given) if origin else {}
        what = {"model": run.report.model, "target": run.report.target}
        tables.append({**what, **(origin.options if origin else {}), **given})
        set_ |= given.keys()
    same = all(tables[0][name] == tables[1][name] for name in ("model", "target"))
    names = [
        name
        for name in dict.fromkeys((*tables[0], *tables[1]))
        if same or name in set_ or (name in tables[0] and name in tables[1])
    ]
    both = [(name, tables[0].get(name, "-"), tables[1].get(name, "-")) for name in names]
    return [row for row in both if row[1] != row[2]]


def verdict(a: Run, b: Run) -> str:
    """One sentence: which is better and why, where the numbers say so."""
    wrong = [who for who, run in (("A", a), ("B", b)) if not run.report.agreement.matches]
    if wrong:
        these = " and ".join(wrong)
        return (
            f"{these} differ{'s' if len(wrong) == 1 else ''} from the reference: look at that first"
        )
    rows = changes(a, b)
    # The last stage that both have is the one on the hardware.
    stages = [row for row in rows if row.is_score and row.a and row.b]
    score = stages[-1] if stages and same_data(a, b) else None
    costs = [row for row in rows if base_name(row.name) in COSTS and row.difference]
    clear = [row for row in costs if row.clear]
    ups = {row.difference > 0 for row in clear if row.difference}
    gain = score.difference if score and score.clear and score.difference else 0.0
    said = _score_text(score, stages)
    unsure = [row for row in costs if not row.clear]
    rest = f"; not clear: {_listed(unsure)}" if unsure else ""
    rest += _alone(rows)
    if not clear and not gain:
        return f"nothing tells them apart: {said}{rest}"
    if len(ups) == 2 or (ups == {True} and gain > 0) or (ups == {False} and gain < 0):
        return f"a trade: B has {_listed(clear)}; {said}{rest}"
    b_wins = gain > 0 or ups == {False}
    # What is not clear and speaks for the other one must not get lost behind a "better".
    against = [row for row in unsure if (row.difference or 0) * (1 if b_wins else -1) > 0]
    if against:
        others = [row for row in unsure if row not in against]
        rest = f"; against it, but not clear: {_listed(against)}"
        rest += (f"; not clear: {_listed(others)}" if others else "") + _alone(rows)
    guessed = not gain and all(row.kind == Kind.ASSUMED.value for row in clear)
    word = f"{'looks' if guessed else 'is'} better{' in part' if against else ''}"
    if not clear:
        return f"{'B' if b_wins else 'A'} {word}: {said}{rest}"
    if b_wins:
        return f"B {word}: {_listed(clear)}; {said}{rest}"
    return f"A {word}: B has {_listed(clear)}; {said}{rest}"


def _alone(rows: Sequence[Change]) -> str:
    """Costs that only one of the two has, so that they cannot be compared."""
    found = ""
    for who, missing in (("A", "b"), ("B", "a")):
        names = [r.name for r in rows if getattr(r, missing) is None and base_name(r.name) in COSTS]
        found += f"; only {who} tells its {', '.join(names)}" if names else ""
    return found


def same_data(a: Run, b: Run) -> bool:
    """Whether accuracies of the two were measured on the same samples."""
    return bool(data_of(a)) and data_of(a) == data_of(b)


def data_of(run: Run) -> str:
    """The hash of the data set that a run's accuracies are of; empty where it is not known."""
    return run.origin.training.get("data", "") if run.origin else ""


def _score_name(row: Change) -> str:
    return _ACCURACY if row.is_accuracy else roc.NAME


def _score_text(score: Change | None, stages: Sequence[Change]) -> str:
    if score is None and stages:
        name = "accuracies" if stages[-1].is_accuracy else f"{roc.NAME}s"
        return f"the {name} are of different data"
    if score is None:
        return "no accuracy to compare"
    name = _score_name(score)
    if not score.difference:
        return f"the same {name}"
    shown = f"{score.amount} of {name}"
    return shown if score.clear else f"{shown}, which these samples do not tell from chance"


def _listed(rows: Sequence[Change]) -> str:
    return ", ".join(f"{row.name} {row.amount} ({row.kind})" for row in rows)


def text(a: Run, b: Run) -> str:
    """The short form, for terminals and CI logs; without a newline at its end."""
    return "\n".join(_lines(a, b))


def _lines(a: Run, b: Run) -> Iterator[str]:
    for who, run in (("A", a), ("B", b)):
        yield f"{who}  {run.name}"
        yield f"   matches reference: {run.report.agreement}"
    for name, before, after in options_changed(a, b):
        word = "" if name in ("model", "target") else "option "
        yield f"{word}{name}: {before} -> {after}"
    if not (a.origin and b.origin and a.origin.onnx == b.origin.onnx):
        yield "the trained networks differ"
    rows = changes(a, b)
    cells = [["", "", "A", "B", "change"]]
    for row in rows:
        kind = "" if row.mixed else row.kind
        cells.append([row.name, kind, *(_cell(row, each) for each in (row.a, row.b)), row.text])
    widths = [max(len(line[at]) for line in cells) for at in range(4)]
    for name, kind, *both, change in cells:
        shown = [f"{name:{widths[0]}}", f"{kind:{widths[1]}}"]
        shown += [f"{cell:>{width}}" for cell, width in zip(both, widths[2:], strict=True)]
        yield "  ".join([*shown, change])
    yield verdict(a, b)


def _cell(row: Change, metric: Metric | None) -> str:
    if metric is None:
        return "-"
    return numbers.score(metric) if row.is_score else numbers.value_text(metric)


@dataclass(frozen=True)
class Limit:
    """`lut>+5%`: B's figure more than 5 % above A's. Without a sign the number is a bound of B's
    own figure; without % the difference is in the figure's unit, of accuracies in points."""

    name: str
    above: bool
    relative: bool  # to A
    percent: bool
    number: float  # with its sign
    text: str

    def crossed(self, rows: Sequence[Change]) -> list[str]:
        """What crosses it, in words.

        Raises:
            UsageError: a run has no such figure, so that nothing can be said.
        """
        found = [row for row in rows if self.name in (_key(row.name), _key(base_name(row.name)))]
        if self.name in (_ACCURACY, _key(roc.NAME)):
            found = [row for row in rows if _key(row.name).startswith(f"{self.name}_")][-1:]
        if not found:
            raise UsageError(f"FAIL_IF: {unknown_name('figure', self.name, _names(rows))}")
        return [text for row in found if (text := self._crossed(row))]

    def _crossed(self, row: Change) -> str | None:
        if row.b is None or (self.relative and row.a is None):
            who = "B" if row.b is None else "A"
            raise UsageError(f"FAIL_IF={self.text}: {who} has no {row.name}")
        if self.relative and row.mixed:
            raise UsageError(
                f"FAIL_IF={self.text}: {row.name} is {row.kind}, which tells nothing of a change; "
                f"make report SYNTH=… ARTIFACT=… adds to a run what vendor tools reported"
            )
        value = 100 * row.b.value if row.is_accuracy else row.b.value
        if self.relative and self.percent:
            assert row.a is not None
            bound = row.a.value * (1 + self.number / 100)
            value = row.b.value
        elif self.relative:
            assert row.difference is not None
            bound, value = self.number, row.difference
        else:
            bound = self.number
        if not (value > bound if self.above else value < bound):
            return None
        amount, comma, doubt = row.text.partition(", ")
        return f"{row.name}: {amount}{f' ({doubt})' if comma else ''} crosses {self.text}"


def read_limits(given: str) -> list[Limit]:
    """Limits with commas or spaces between them, as FAIL_IF has them. Raises UsageError."""
    found = []
    for word in re.split(r"[,\s]+", given.strip().lower()):
        match = _LIMIT.fullmatch(word)
        if match is None:
            raise UsageError(
                f"FAIL_IF must be like lut>+5%, latency>+2, accuracy<-0.5 or accuracy<97, not "
                f"{word!r}; write _ for the space in a figure's name"
            )
        name, way, sign, number, percent = match.groups()
        accuracy = name == _ACCURACY or name.startswith(f"{_ACCURACY}_")
        if percent and (accuracy or not sign):
            raise UsageError(
                f"FAIL_IF={word}: "
                + (
                    f"accuracies are in percent already: write {word[:-1]}, in points"
                    if accuracy
                    else f"a share is of A, so it needs a sign: write {name}{way}+{number}%"
                )
            )
        value = float(number) * (-1 if sign == "-" else 1)
        found.append(Limit(name, way == ">", bool(sign), bool(percent), value, word))
    return found


def check(limits: Sequence[Limit], a: Run, b: Run) -> None:
    """Raises LimitCrossed with all that cross, UsageError for a figure that is not there."""
    rows = changes(a, b)
    crossed = [text for limit in limits for text in limit.crossed(rows)]
    if crossed:
        raise LimitCrossed("FAIL_IF: " + "; ".join(crossed))


def base_name(name: str) -> str:
    """`lut` of `LUT (logic synthesis)`: figures of vendor tools name their stage."""
    return name.lower().partition(" (")[0]


def _key(name: str) -> str:
    return re.sub(r"\s+", "_", name.lower())


def _names(rows: Sequence[Change]) -> list[str]:
    scores = (_key(_score_name(row)) for row in rows if row.is_score)
    return [*dict.fromkeys((*scores, *(_key(base_name(row.name)) for row in rows)))]
