"""Arrays of resistive devices: what a programming leaves in them, and what time makes of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from targets.analog.device import Device, Drift, Flicker, Per
from targets.analog.draws import Draw, normals, stream
from targets.analog.mapping import Columns, FloatArray, Mapped, Tile
from targets.analog.programmed import Compensation, Condition, Draws, Programmed
from targets.analog.wires import interleaved, through_wires

LEAST_LEVEL = 1e-7  # of the laws that take a level's logarithm


def program(layer: Mapped, device: Device, condition: Condition, draws: Draws) -> Programmed:
    """The layer on each of the chips, as it is at the condition's time."""
    assert device.conductance is not None
    made = _Programming(layer, device, condition, draws)
    conductances = made.programmed()
    start = made.seen(conductances) if made.compensates else None
    made.age(conductances)
    gain = None
    if start is not None:
        gain = _gain(layer, start, made.seen(conductances), condition.compensation)
    variance, by_sample = (made.variance(conductances, per) for per in (Per.MVM, Per.SAMPLE))
    if made.flickers(Per.CHIP):
        conductances += made.flicker(conductances)
        np.maximum(conductances, 0, out=conductances)
    return Programmed(made.seen(conductances), variance, by_sample, gain)


class _Programming:
    def __init__(self, layer: Mapped, device: Device, condition: Condition, draws: Draws):
        self.layer, self.device, self.condition, self.draws = layer, device, condition, draws
        assert device.conductance is not None
        self.range = device.conductance
        self.target = self.range.min_us + self.range.span * layer.levels
        self.level = self.target / self.range.max_us

    @property
    def compensates(self) -> bool:
        drifts = self.device.drift is not None and self.condition.time_s > 0
        return drifts and self.condition.compensation is not Compensation.NONE

    def flickers(self, per: Per) -> bool:
        flicker = self.device.flicker
        return flicker is not None and flicker.per is per and self.condition.noise > 0

    def programmed(self) -> FloatArray:
        """Conductances (chips, groups, inputs, columns) right after programming."""
        found = np.empty((len(self.draws.chips), *self.target.shape))
        law, scale = self.device.programming, self.condition.noise
        if law is None or not scale:
            found[:] = self.target
        else:
            sigma = sum(c * self.level**power for power, c in enumerate(law.sigma_us))
            np.multiply(self._normal(Draw.PROGRAMMING), scale * sigma, out=found)
            found += self.target
            np.maximum(found, 0, out=found)
        self._stick(found)
        return found

    def _stick(self, found: FloatArray) -> None:
        stuck = self.device.stuck
        if stuck is None or stuck.off + stuck.on == 0:
            return
        for place, tile, generator in self._streams(Draw.STUCK):
            part = found[place][_where(tile)]
            drawn = generator.random(part.shape)
            part[drawn < stuck.off] = self.range.min_us
            part[drawn >= 1 - stuck.on] = self.range.max_us

    def age(self, found: FloatArray) -> None:
        """Drift until the condition's time, in place."""
        drift, time = self.device.drift, self.condition.time_s
        if drift is None or time == 0:
            return
        mean, sigma = drift_law(drift, self.level)
        power = self._normal(Draw.DRIFT)
        power *= sigma
        power += mean
        np.abs(power, out=power)
        power *= -np.log1p(time / drift.t0_s)
        found *= np.exp(power, out=power)

    def flicker(self, found: FloatArray) -> FloatArray:
        """What 1/f noise adds to conductances."""
        noise = self._normal(Draw.FLICKER)
        noise *= self._flicker_sigma()
        noise *= found
        return noise

    def _flicker_sigma(self) -> FloatArray:
        flicker, drift = self.device.flicker, self.device.drift
        assert flicker is not None
        since = self.condition.time_s + (0.0 if drift is None else drift.t0_s)
        return self.condition.noise * flicker_law(flicker, self.level, since)

    def variance(self, found: FloatArray, per: Per) -> FloatArray | None:
        """Of readings, of what is drawn for every product, or for every sample, in steps of the
        integer weights; of columns of devices where readings share them."""
        total: FloatArray | None = None
        white, scale = self.device.white, self.condition.noise
        if white is not None and white.per is per and white.sigma_us * scale > 0:
            total = np.full_like(found, (white.sigma_us * scale) ** 2)
        if self.flickers(per):
            gathered = (found * self._flicker_sigma()) ** 2
            total = gathered if total is None else total + gathered
        if total is None:
            return None
        layer, steps = self.layer, self.layer.unit[:, None] / self.range.span
        if layer.shares:
            return total * steps[..., :1] ** 2
        assert layer.minus is not None
        return (take(total, layer.plus) + take(total, layer.minus)) * steps**2

    def seen(self, found: FloatArray) -> FloatArray:
        """What the readings multiply by, through the tiles' wires."""
        wire = self.device.wire
        if wire is None or wire.ohm == 0:
            return _weights(self.layer, self.device, found)
        behind = np.empty_like(found)
        for one, other in zip(found, behind, strict=True):
            for tile in self.layer.tiles:
                part = one[_where(tile)]
                order = interleaved(part.shape[1], not self.layer.shares)
                other[_where(tile)][:, order] = through_wires(part[:, order], wire.ohm)
        return _weights(self.layer, self.device, behind)

    def _normal(self, draw: Draw) -> FloatArray:
        """Standard normal numbers for each device of each chip."""
        draws = self.draws
        found = np.empty((len(draws.chips), *self.target.shape))
        for number, tile in enumerate(self.layer.tiles):
            where = found[:, *_where(tile)]
            streams = [stream(draws.seed, c, draws.layer, number, draw) for c in draws.chips]
            where[...] = normals(streams, where.shape[1:])
        return found

    def _streams(self, draw: Draw) -> Iterator[tuple[int, Tile, np.random.Generator]]:
        draws = self.draws
        for place, chip in enumerate(draws.chips):
            for number, tile in enumerate(self.layer.tiles):
                yield place, tile, stream(draws.seed, chip, draws.layer, number, draw)


def drift_law(drift: Drift, level: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of nu at these levels."""
    logs = np.log(np.maximum(level, LEAST_LEVEL))
    pairs = ((drift.mean, drift.mean_range), (drift.sigma, drift.sigma_range))
    mean, sigma = (np.clip(a + b * logs, low, high) for (a, b), (low, high) in pairs)
    return mean, sigma


def flicker_law(flicker: Flicker, level: FloatArray, since_s: float) -> FloatArray:
    """The standard deviation, as a share of the conductance."""
    relative = flicker.factor * np.maximum(level, LEAST_LEVEL) ** -flicker.exponent
    gathered = np.log((since_s + flicker.window_s) / (2 * flicker.window_s))
    found: FloatArray = np.minimum(relative, flicker.limit) * np.sqrt(max(gathered, 0.0))
    return found


def _where(tile: Tile) -> tuple[int, slice, slice]:
    return tile.group, tile.rows, tile.columns


def _weights(layer: Mapped, device: Device, conductances: FloatArray) -> FloatArray:
    """What the readings multiply by: (chips, groups, inputs, readings)."""
    assert device.conductance is not None and layer.minus is not None
    difference = take(conductances, layer.plus) - take(conductances, layer.minus)
    difference *= layer.unit[:, None] / device.conductance.span
    return difference


def take(values: FloatArray, columns: Columns) -> FloatArray:
    """Columns of devices (..., columns), by number."""
    found: FloatArray = (
        values[..., columns] if isinstance(columns, slice) else np.take(values, columns, axis=-1)
    )
    return found


def _gain(
    layer: Mapped, start: FloatArray, now: FloatArray, compensation: Compensation
) -> FloatArray:
    """How much larger readings were at the start, (chips, row blocks, groups, readings): by sums of
    magnitudes over a tile, or over a reading's devices in a row block; devices are read one by one,
    without noise."""
    starts = [block.start for block in layer.row_blocks]
    before, after = (
        np.moveaxis(np.add.reduceat(np.abs(part), starts, axis=2), 2, 1) for part in (start, now)
    )
    if compensation is Compensation.GLOBAL:
        for _, readings in layer.column_blocks:
            for part in (before, after):
                part[..., readings] = part[..., readings].sum(axis=-1, keepdims=True)
    return np.divide(before, after, out=np.ones_like(before), where=after > 0)
