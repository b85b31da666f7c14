"""What the scheduler's engine takes, and how its policies compare; on the Odroid-XU3.

Six tables in reports/baseline:

* schedule_speed.csv: seconds of one processor for ten policies over 10^6 requests, and for the
  oracle's two bounds at a grid of 0.5 ms with their gap, both after compiling.
* schedule_decisions.csv: microseconds of the exported class, for one decision and with what it is
  told around it (a request arrived, one started, one finished), by how many wait.
* schedule_memory.csv: the most memory that 10^7 requests take, drawn and served.
* schedule_claims.csv: J of `price` less J of each other policy, in percent of the other's, over 20
  seeds with 95 % t-intervals of the paired differences. The price is tuned on a seed of its own.
* schedule_frames.csv: interactive frames of one model, as arXiv:1906.08689 has them: energy above
  idle and with the floor, misses, and what `predictive` with a margin of 20 % saves against each.
* schedule_bounds.csv: of 8 seeds of 1,000 requests J of each policy over the lower bound; of
  governors over the bound that lets requests change their point on the way.

J = energy above the floor + 1 J for each miss. Requests take 5 % more or less than predicted,
lognormal. Nobody measured p_awake and the migration: 0 mW and 50 us are assumed, and rows for
500 mW stand beside. `idle` says whether idling draws what the held point idles at, as the table has
it, or the floor.

Run with `make bench SUITE=schedule`, or one table with `python -m tests.bench.schedule speed`.
"""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from flow.schedule.engine import simulate
from flow.schedule.export import policy_table
from flow.schedule.generators import Bursty, Demand, Generator, Interactive, Poisson, generate
from flow.schedule.oracle import bounds
from flow.schedule.outcome import Outcome
from flow.schedule.platform import Load, Platform
from flow.schedule.platform_file import load_platform
from flow.schedule.policies import POLICIES, find_policy
from flow.schedule.policies.base import Governor, Policy
from flow.schedule.policies.predictive import Price, Tight
from flow.schedule.policies.tuning import tune_price
from flow.schedule.policy_snippet import Policy as Exported
from flow.schedule.trace import Trace
from flow.schedule.work import FloatArray, Table, Variant, make_table

FOLDER = Path("reports/baseline")
MISS_MJ = 1000.0
SEEDS = range(20)
TRAINING = 1000
COUNT = 10_000  # requests of a seed
SHORT, FEWER = 1_000, 8  # requests and seeds where the oracle runs
ERROR = 0.05
TIMES_US = {"small": 8_000, "middle": 30_000, "large": 70_000}
DEMANDS = (
    Demand("small", 60_000, 0.6),
    Demand("middle", 150_000, 0.3),
    Demand("large", 350_000, 0.1),
)
FRAMES = (Demand("small", 33_300),)
TRACES: dict[str, tuple[Generator, Sequence[Demand]]] = {
    "poisson": (Poisson(120), DEMANDS),
    "bursty": (Bursty(120), DEMANDS),
    "interactive": (Interactive(), FRAMES),
}
# gating is for hardware that can be switched off
OTHERS = tuple(name for name in POLICIES if name not in ("price", "gated"))
TIMED = tuple(name for name in POLICIES if name not in ("powersave", "optimal_available", "gated"))


def main(chosen: Sequence[str]) -> int:
    for name, (columns, make) in TABLES.items():
        if chosen and name not in chosen:
            continue
        path = FOLDER / f"schedule_{name}.csv"
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([columns, *make()])
        print(path.read_text(), flush=True)
    return 0


def platforms() -> Iterator[tuple[str, float, Platform]]:
    """(how it idles, p_awake_mw, platform)."""
    plain, awake = (
        load_platform("odroid-xu3", {"p_awake_mw": awake, "migration_us": 50})
        for awake in (0.0, 500.0)
    )
    yield "held", 0.0, plain
    clusters = tuple(
        replace(c, idle_states=(replace(c.idle_states[0], power_mw=c.floor_mw),))
        for c in plain.clusters
    )
    yield "floor", 0.0, replace(plain, clusters=clusters)
    yield "held", 500.0, awake


def table_for(platform: Platform, trace: Trace) -> Table:
    variants = [
        Variant(name, "tflite", name, 90.0, Load.COMPUTE, us) for name, us in TIMES_US.items()
    ]
    return make_table(platform, variants, trace.models)


def drawn(kind: str, seed: int, count: int = COUNT) -> tuple[Trace, FloatArray]:
    """(trace, how much longer than the table's time its requests take)."""
    generator, demands = TRACES[kind]
    work: FloatArray = np.random.default_rng(10_000 + seed).lognormal(0, ERROR, count)
    return generate(generator, demands, count, seed), work


def tuned(kind: str, platform: Platform) -> Price:
    trace, work = drawn(kind, TRAINING)
    return tune_price(trace, table_for(platform, trace), platform, Price(), work)


def runs(kind: str, platform: Platform, price: Price) -> dict[str, list[Outcome]]:
    """By policy the outcomes of all seeds."""
    policies: dict[str, Policy] = {name: find_policy(name) for name in OTHERS}
    policies["price"] = price
    if kind == "interactive":  # of predictions that err by 5 % one in a hundred is beyond 10 %
        policies["predictive, margin 20 %"] = Tight(margin=0.2)
    found: dict[str, list[Outcome]] = {name: [] for name in policies}
    for seed in SEEDS:
        trace, work = drawn(kind, seed)
        table = table_for(platform, trace)
        for name, policy in policies.items():
            found[name].append(simulate(policy, trace, table, platform, work))
    return found


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high): 95 %, Student's."""
    array = np.asarray(values)
    half = student.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array))
    mean = float(array.mean())
    return mean, mean - float(half), mean + float(half)


def told(values: Sequence[float]) -> list[str]:
    return [f"{value:.2f}" for value in interval(values)]


CLAIMS = (
    *("trace", "idle", "p_awake_mw", "price_w", "against"),
    *("j_less_percent", "low", "high", "mj_each", "miss_percent"),
    *("against_mj_each", "against_miss_percent", "seeds", "price_wins"),
)


def claims() -> Iterator[list[str]]:
    for idle, awake, platform in platforms():
        for kind in TRACES:
            price = tuned(kind, platform)
            found = runs(kind, platform, price)
            ours = found.pop("price")
            for name, theirs in found.items():
                pairs = list(zip(ours, theirs, strict=True))
                less = [100 * (a.cost_mj(MISS_MJ) / b.cost_mj(MISS_MJ) - 1) for a, b in pairs]
                _, low, high = interval(less)
                won = "yes" if high < 0 else "no" if low > 0 else "undecided"
                yield [
                    *(kind, idle, f"{awake:g}", f"{price.price_w:g}", name, *told(less)),
                    *(_each(ours), _missed(ours), _each(theirs), _missed(theirs)),
                    *(str(len(SEEDS)), won),
                ]


def _each(outcomes: Sequence[Outcome]) -> str:
    return f"{np.mean([o.energy_mj / len(o.finish_us) for o in outcomes]):.3f}"


def _missed(outcomes: Sequence[Outcome]) -> str:
    return f"{100 * np.mean([o.misses / len(o.finish_us) for o in outcomes]):.3f}"


FRAME = (
    *("idle", "p_awake_mw", "policy", "mj_each", "with_floor_mj_each", "miss_percent"),
    *("saved_percent", "low", "high", "with_floor_saved_percent"),
)


def frames() -> Iterator[list[str]]:
    for idle, awake, platform in platforms():
        found = runs("interactive", platform, tuned("interactive", platform))
        ours = found["predictive, margin 20 %"]
        for name, theirs in found.items():
            pairs = list(zip(ours, theirs, strict=True))
            saves = [100 * (1 - a.energy_mj / b.energy_mj) for a, b in pairs]
            whole = [
                100 * (1 - (a.energy_mj + a.floor_mj) / (b.energy_mj + b.floor_mj))
                for a, b in pairs
            ]
            floor = np.mean([(o.energy_mj + o.floor_mj) / COUNT for o in theirs])
            yield [
                *(idle, f"{awake:g}", name, _each(theirs), f"{floor:.3f}", _missed(theirs)),
                *(*told(saves), f"{np.mean(whole):.2f}"),
            ]


BOUND = (
    "trace",
    "idle",
    "p_awake_mw",
    "policy",
    "bound",
    "times_lower",
    "low",
    "high",
    "gap_percent",
)


def above() -> Iterator[list[str]]:
    for idle, awake, platform in list(platforms())[:1]:
        for kind in TRACES:
            rows: dict[str, list[float]] = {}
            gaps: dict[bool, list[float]] = {False: [], True: []}
            price = tuned(kind, platform)
            for seed in SEEDS[:FEWER]:
                trace, work = drawn(kind, seed, SHORT)
                table = table_for(platform, trace)
                lower = {}
                for mixing in (False, True):
                    found = bounds(trace, table, platform, MISS_MJ, 500, work, mixing)
                    lower[mixing] = found.lower_mj
                    gaps[mixing].append(100 * found.gap)
                for name in (*OTHERS, "price"):
                    policy = price if name == "price" else find_policy(name)
                    cost = simulate(policy, trace, table, platform, work).cost_mj(MISS_MJ)
                    ratio = cost / lower[isinstance(policy, Governor)]
                    assert ratio >= 1, (kind, seed, name)
                    rows.setdefault(name, []).append(ratio)
            for name, values in rows.items():
                mixing = issubclass(POLICIES[name], Governor)
                bound = "relaxed, points mixed" if mixing else "relaxed"
                gap = f"{np.mean(gaps[mixing]):.2f}"
                yield [kind, idle, f"{awake:g}", name, bound, *told(values), gap]


SPEED = ("what", "requests", "cpu_seconds", "gap_percent")
MEMORY = ("what", "requests", "cpu_seconds", "peak_mib")


def speed() -> Iterator[list[str]]:
    platform = next(platforms())[2]
    warm, _ = drawn("poisson", 0, 100)
    for name in TIMED:
        simulate(find_policy(name), warm, table_for(platform, warm), platform)
    bounds(warm, table_for(platform, warm), platform.without_extras(), MISS_MJ)
    count, total = 10**6, 0.0
    trace = generate(Poisson(240), DEMANDS, count, 1)
    table = table_for(platform, trace)
    for name in TIMED:
        begin = time.process_time()
        simulate(find_policy(name), trace, table, platform)
        taken = time.process_time() - begin
        total += taken
        yield [name, str(count), f"{taken:.2f}", ""]
    yield ["ten policies", str(count), f"{total:.2f}", ""]
    ideal = platform.without_extras()
    for gap_ms in (240, 120):
        trace = generate(Poisson(gap_ms), DEMANDS, count, 1)
        begin = time.process_time()
        found = bounds(trace, table, ideal, MISS_MJ, 500)
        taken = time.process_time() - begin
        assert found.exact
        label = f"oracle, poisson {gap_ms} ms"
        yield [label, str(count), f"{taken:.2f}", f"{100 * found.gap:.2f}"]


DECISION = ("policy", "waiting", "what", "median_us", "p99_us")


def decisions() -> Iterator[list[str]]:
    platform = next(platforms())[2]
    trace, _ = drawn("poisson", 0, 100)
    table = table_for(platform, trace)
    for name in ("price", "predictive"):
        for waiting in (1, 5, 32, 100):
            policy = Exported(policy_table(find_policy(name), table, platform))
            for each in range(waiting):
                policy.arrived("small", 60_000 + 3_000 * each)
            alone, whole = [], []
            for now in range(0, 5_000_000, 1_000):
                begin = time.perf_counter()
                choice = policy.decide(now)
                decided = time.perf_counter()
                policy.started(choice)
                policy.arrived("small", now + 60_000 + 3_000 * waiting)
                policy.finished(choice, 1.01 * choice.predicted_us)
                whole.append(time.perf_counter() - begin)
                alone.append(decided - begin)
            for what, seconds in (("decide", alone), ("all four calls", whole)):
                figures = (f"{1e6 * us:.2f}" for us in np.percentile(seconds, [50, 99]))
                yield [name, str(waiting), what, *figures]


def memory() -> Iterator[list[str]]:
    """In a process of its own."""
    argv = [sys.executable, "-W", "ignore", "-m", "tests.bench.schedule", "ten-million"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    yield ["price", str(10**7), *done.stdout.split()]


def ten_million() -> int:
    """Prints seconds and MiB of ten million requests, generated and served."""
    platform = next(platforms())[2]
    trace = generate(Poisson(240), DEMANDS, 10**7, 1)
    begin = time.process_time()
    outcome = simulate(find_policy("price"), trace, table_for(platform, trace), platform)
    taken = time.process_time() - begin
    assert outcome.part_us.sum() == outcome.horizon_us
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{taken:.2f} {peak:.0f}")
    return 0


TABLES: dict[str, tuple[Sequence[str], Callable[[], Iterator[list[str]]]]] = {
    "speed": (SPEED, speed),
    "decisions": (DECISION, decisions),
    "memory": (MEMORY, memory),
    "claims": (CLAIMS, claims),
    "frames": (FRAME, frames),
    "bounds": (BOUND, above),
}

if __name__ == "__main__":
    sys.exit(ten_million() if sys.argv[1:] == ["ten-million"] else main(sys.argv[1:]))
