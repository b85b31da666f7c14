"""Devices from TOML files: what they hold, how they err, what drives and reads them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from pathlib import Path

from flow.errors import UsageError
from flow.options import unknown_name
from targets.analog.leakage import poisson_rate
from targets.analog.tables import read_table, within

MAX_BYTES = 1 << 16
SCHEMA = 1


class Kind(Enum):
    CROSSBAR = "crossbar"
    PHOTONIC = "photonic"


class Per(Enum):
    """What a random number is drawn for: once for a chip; anew for every sample, whose products,
    those of a convolution's positions and of a code's bits, share it; or anew for every
    matrix-vector product."""

    CHIP = "chip"
    SAMPLE = "sample"
    MVM = "mvm"


class DacKind(Enum):
    """`pwm`: a pulse as long as the code. `bit_serial`: a product for each bit of the code, shifted
    and added digitally."""

    PWM = "pwm"
    BIT_SERIAL = "bit_serial"


class AdcKind(Enum):
    """How long a conversion takes: `sar` bits + 1 cycles, `ramp` 2^bits for all columns at once.
    Their codes are the same."""

    SAR = "sar"
    RAMP = "ramp"

    def cycles(self, bits: int) -> int:
        """Of one conversion of all columns of a tile, each by an ADC of its own."""
        return bits + 1 if self is AdcKind.SAR else 1 << bits


class Range(Enum):
    """What an ADC's lowest and highest code stand for: `full`, all that the weights can make of any
    inputs; `calibrated`, the largest sum of training samples."""

    FULL = "full"
    CALIBRATED = "calibrated"


class Law(Enum):
    """Distributions of optical noise."""

    GAUSSIAN = "gaussian"
    LAPLACIAN = "laplacian"
    POISSON = "poisson"


def _check_levels(min_us: float, max_us: float) -> None:
    within("min_us", min_us, 0, 1e9)
    within("max_us", max_us, 0, 1e9)
    if min_us >= 0.99 * max_us:
        raise ValueError(
            f"min_us must be below max_us by 1 % at least, not {min_us:g} of {max_us:g}"
        )


@dataclass(frozen=True)
class Conductance:
    """Levels 0 and 1, in microsiemens."""

    min_us: float
    max_us: float
    source: str

    def __post_init__(self) -> None:
        _check_levels(self.min_us, self.max_us)

    @property
    def span(self) -> float:
        return self.max_us - self.min_us


@dataclass(frozen=True)
class Programming:
    """A device that shall hold g gets max(0, N(g, s^2)), s = sum of sigma_us[i] * (g/max_us)^i,
    which may not be below 0 from 0 to max_us. Drawn per chip."""

    sigma_us: tuple[float, ...]
    source: str


@dataclass(frozen=True)
class Stuck:
    """The shares of devices that hold min_us (`off`) and max_us (`on`) whatever they are given.
    Drawn per chip."""

    off: float
    on: float
    source: str

    def __post_init__(self) -> None:
        within("off", self.off, 0, 1)
        within("on", self.on, 0, 1)
        within("off + on", self.off + self.on, 0, 1)


@dataclass(frozen=True)
class Drift:
    """g(t) = g * ((t + t0_s)/t0_s)^-|nu|, t seconds after t0_s, nu of N(mean, sigma^2), drawn per
    device and chip; mean and sigma are a + b * ln(r), clamped to their range, of the level r =
    g/max_us that the device was given."""

    t0_s: float
    mean: tuple[float, ...]
    mean_range: tuple[float, ...]
    sigma: tuple[float, ...]
    sigma_range: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        within("t0_s", self.t0_s, 1e-9, 1e9)
        for name in ("mean", "mean_range", "sigma", "sigma_range"):
            if len(getattr(self, name)) != 2:
                raise ValueError(f"{name} must be two numbers, not {len(getattr(self, name))}")
        for name in ("mean_range", "sigma_range"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 10:
                raise ValueError(f"{name} must ascend, from 0 to 10, not {low:g}, {high:g}")


@dataclass(frozen=True)
class Flicker:
    """1/f noise that has gathered since programming: of g(t), sigma = g(t) * min(factor *
    r^-exponent, limit) * sqrt(ln((t + window_s)/(2 window_s))), t seconds since programming. It is
    drawn as `per` says; per chip, no conductance goes below 0 by it."""

    factor: float
    exponent: float
    limit: float
    window_s: float
    per: Per
    source: str

    def __post_init__(self) -> None:
        within("factor", self.factor, 0, 10)
        within("exponent", self.exponent, 0, 10)
        within("limit", self.limit, 0, 10)
        within("window_s", self.window_s, 1e-15, 1)


@dataclass(frozen=True)
class White:
    """Noise of sigma_us microsiemens on each device, for every sample or product anew."""

    sigma_us: float
    per: Per
    source: str

    def __post_init__(self) -> None:
        within("sigma_us", self.sigma_us, 0, 1e9)
        if self.per is Per.CHIP:
            raise ValueError(
                "per must be sample or mvm, not chip: what stays is an error of programming"
            )


@dataclass(frozen=True)
class Optical:
    """Values from -1 to 1 (those beyond are clamped) are rounded to steps of 1/precision; then
    noise is added of which the share `leakage` would be read as another step. `leakage` 0: none.
    It is drawn as `per` says: that of weights by any law per chip, gaussian also per sample or
    product; that of inputs per product."""

    precision: int
    noise: Law
    leakage: float
    per: Per
    source: str

    def __post_init__(self) -> None:
        within("precision", self.precision, 1, 1 << 20)
        _check_leakage(self.leakage)
        if self.noise is Law.POISSON and self.leakage:
            poisson_rate(self.leakage, self.precision)


@dataclass(frozen=True)
class Detector:
    """Sums, as shares of the range, get noise as in `Optical`, and are then rounded and clamped;
    drawn per matrix-vector product."""

    precision: int
    noise: Law
    leakage: float
    range: Range
    source: str

    def __post_init__(self) -> None:
        within("precision", self.precision, 1, 1 << 20)
        if self.noise is Law.POISSON:
            raise ValueError("noise must be gaussian or laplacian: sums are below 0, too")
        _check_leakage(self.leakage)


@dataclass(frozen=True)
class Dac:
    """Codes that need more bits, sign included, lose their lowest ones; bit_serial has no limit."""

    kind: DacKind
    bits: int
    source: str

    def __post_init__(self) -> None:
        within("bits", self.bits, 1, 24)


@dataclass(frozen=True)
class Adc:
    """One for every reading of a tile. `offset_lsb` is the standard deviation, in its steps, of its
    zero, drawn per chip; `noise_lsb` that of a conversion."""

    kind: AdcKind
    bits: int
    range: Range
    offset_lsb: float
    noise_lsb: float
    source: str

    def __post_init__(self) -> None:
        within("bits", self.bits, 1, 32)
        within("offset_lsb", self.offset_lsb, 0, 1e6)
        within("noise_lsb", self.noise_lsb, 0, 1e6)


@dataclass(frozen=True)
class NlAdc:
    """A nonlinear ramp in the place of the ADC, and of the table behind it, for layers of which a
    table is all that reads the sums: its steps are memory devices, in proportion to the distances
    of the table's thresholds, the largest one at max_us. Each gets max(min_us, N(g, sigma_us^2)),
    drawn per chip; a tile has one ramp. A conversion takes 2^bits cycles of `clock_mhz`, of the
    bits that count the thresholds. Comparators and clock have no errors."""

    min_us: float
    max_us: float
    sigma_us: float
    clock_mhz: float
    source: str

    def __post_init__(self) -> None:
        _check_levels(self.min_us, self.max_us)
        within("sigma_us", self.sigma_us, 0, 1e9)
        within("clock_mhz", self.clock_mhz, 1e-3, 1e6)


@dataclass(frozen=True)
class Conversion:
    """What an ADC's conversion takes: 10^((sndr - fom_db)/10)/2 joules, sndr = 6.02 bits + 1.76 dB,
    by Schreier's figure of merit, those that are known of the width in use; its cycles' clock."""

    fom_db: tuple[float, ...]
    clock_mhz: float
    source: str

    def __post_init__(self) -> None:
        _check_known("fom_db", self.fom_db, 100, 250)
        within("clock_mhz", self.clock_mhz, 1e-3, 1e6)

    def joules(self, bits: int) -> tuple[float, ...]:
        """Of one conversion, for each figure of merit."""
        return tuple(10 ** ((6.02 * bits + 1.76 - fom) / 10) / 2 for fom in self.fom_db)


@dataclass(frozen=True)
class Read:
    """A read of an array takes volts^2 * conductance * pulse of each device, the pulse as long as
    its code, `pulse_ns` for the largest. Of this and what follows, all numbers that are known are
    given, ascending."""

    volts: tuple[float, ...]
    pulse_ns: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        _check_known("volts", self.volts, 0, 100)
        _check_known("pulse_ns", self.pulse_ns, 0, 1e9)


@dataclass(frozen=True)
class DriveCost:
    """Picojoules that a DAC takes to drive a line once: a pulse, or a bit."""

    pj: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        _check_known("pj", self.pj, 0, 1e9)


@dataclass(frozen=True)
class Digital:
    """Picojoules of an addition and of a product in the digital part."""

    add_pj: tuple[float, ...]
    multiply_pj: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        _check_known("add_pj", self.add_pj, 0, 1e9)
        _check_known("multiply_pj", self.multiply_pj, 0, 1e9)


@dataclass(frozen=True)
class Light:
    """What photonic arrays take: a DAC for an input, an amplifier for a sum; a modulator and a
    laser for each input and two rings for each weight, which draw power for a product's
    `cycle_ns`."""

    dac_pj: tuple[float, ...]
    tia_pj: tuple[float, ...]
    modulator_mw: tuple[float, ...]
    ring_mw: tuple[float, ...]
    laser_mw: tuple[float, ...]
    cycle_ns: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        for name in ("dac_pj", "tia_pj", "modulator_mw", "ring_mw", "laser_mw", "cycle_ns"):
            _check_known(name, getattr(self, name), 0, 1e9)


@dataclass(frozen=True)
class Wire:
    """The resistance from one device to the next, along rows and along columns; tiles are of up to
    128 x 128 devices then. The two columns of a pair lie side by side. What each product varies by
    is not made smaller by it."""

    ohm: float
    source: str

    def __post_init__(self) -> None:
        within("ohm", self.ohm, 0, 1e6)


@dataclass(frozen=True)
class TileSize:
    rows: int
    columns: int
    source: str

    def __post_init__(self) -> None:
        within("rows", self.rows, 1, 1 << 16)
        within("columns", self.columns, 2, 1 << 16)


@dataclass(frozen=True)
class Device:
    """A technology. Without a `dac`, an `adc` or a `detector` converters lose nothing."""

    schema: int
    kind: Kind
    title: str
    tile: TileSize
    conductance: Conductance | None = None
    programming: Programming | None = None
    stuck: Stuck | None = None
    drift: Drift | None = None
    flicker: Flicker | None = None
    white: White | None = None
    wire: Wire | None = None
    dac: Dac | None = None
    adc: Adc | None = None
    nl_adc: NlAdc | None = None
    conversion: Conversion | None = None
    read: Read | None = None
    drive: DriveCost | None = None
    digital: Digital | None = None
    light: Light | None = None
    weight: Optical | None = None
    input: Optical | None = None
    detector: Detector | None = None

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema must be {SCHEMA}, not {self.schema}")
        photonic = self.kind is Kind.PHOTONIC
        for name in _OPTICAL if not photonic else _ELECTRICAL:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is of no {self.kind.value} device; leave it out")
        if not photonic and self.conductance is None:
            raise ValueError("conductance must be given for a crossbar")
        if self.conversion is not None and self.adc is None:
            raise ValueError("conversion is of devices with an adc; leave it out")
        if self.nl_adc is not None:
            self._check_ramp()
        if self.weight is not None and self.weight.per is not Per.CHIP:
            if self.weight.noise is not Law.GAUSSIAN:
                per, noise = self.weight.per.value, self.weight.noise.value
                raise ValueError(
                    f"weight: noise must be gaussian where it is drawn per {per}, as sums of "
                    f"{noise} noise follow another law; use chip"
                )
        if self.input is not None and self.input.per is not Per.MVM:
            raise ValueError("input: per must be mvm, as inputs are set for every product")
        self._check_sigma()

    def _check_ramp(self) -> None:
        if self.dac is not None and self.dac.kind is DacKind.BIT_SERIAL:
            raise ValueError(
                "nl_adc reads whole sums: the dac must be pwm, not bit_serial, whose sums are "
                "digital"
            )
        if self.drift is not None:
            raise ValueError(
                "nl_adc is of devices without drift, as its own devices' is not modelled; leave "
                "one of the two out"
            )

    def _check_sigma(self) -> None:
        if self.programming is None:
            return
        for at in range(101):
            sigma = self.sigma(at / 100)
            if sigma < 0:
                raise ValueError(
                    f"programming: sigma_us must not give less than 0, but gives {sigma:g} at "
                    f"g/max_us = {at / 100:g}"
                )

    def sigma(self, level: float) -> float:
        """Programming's standard deviation in microsiemens at g/max_us = level."""
        assert self.programming is not None
        return sum(c * level**power for power, c in enumerate(self.programming.sigma_us))

    @property
    def varies(self) -> bool:
        """Whether one chip or product differs from another."""
        optical = (self.weight, self.input, self.detector)
        return (
            any((self.programming, self.drift, self.flicker, self.white))
            or (self.stuck is not None and self.stuck.off + self.stuck.on > 0)
            or (self.adc is not None and self.adc.offset_lsb + self.adc.noise_lsb > 0)
            or (self.nl_adc is not None and self.nl_adc.sigma_us > 0)
            or any(part is not None and part.leakage > 0 for part in optical)
        )


def _check_known(name: str, known: tuple[float, ...], low: float, high: float) -> None:
    for number in known:
        within(name, number, low, high)
    if list(known) != sorted(known):
        raise ValueError(f"{name} must ascend, not {', '.join(f'{n:g}' for n in known)}")


def _check_leakage(leakage: float) -> None:
    if not 0 <= leakage < 1:
        raise ValueError(f"leakage must be from 0 to below 1, not {leakage:g}")


_OPTICAL = ("weight", "input", "detector", "light")
_ELECTRICAL = (
    *("conductance", "programming", "stuck", "drift", "flicker", "white", "wire", "dac", "adc"),
    *("nl_adc", "conversion", "read", "drive"),
)


def device_names() -> tuple[str, ...]:
    """The devices that ship, by the names of their files."""
    files = (resources.files("targets.analog") / "devices").iterdir()
    return tuple(
        sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))
    )


def is_file(device: str) -> bool:
    """Whether a device is given as a file of the user's."""
    return device.endswith(".toml")


def device_text(device: str) -> str:
    """The TOML of a device that ships, or of a path that ends in .toml.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    if not is_file(device):
        if device not in (names := device_names()):
            raise unknown_name("device", device, names)
        return (resources.files("targets.analog") / "devices" / f"{device}.toml").read_text()
    path = Path(device)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"device {device}: more than {MAX_BYTES} bytes are not read")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"device {device}: cannot be read: {error}") from error


def read_device(name: str, text: str) -> Device:
    """The device that a TOML text describes. Raises UsageError with the place of what is wrong."""
    try:
        body = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"device {name}: is no TOML: {error}") from error
    return read_table(Device, f"device {name}", body)
