"""Device files: every key is known, every number in range, and what ships can be read."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from flow.errors import UsageError
from targets.analog.device import device_names, device_text, read_device
from targets.analog.target import Analog

PCM = device_text("pcm")
PHOTONIC = device_text("photonic")


@pytest.mark.parametrize("name", device_names())
def test_what_ships_says_where_every_number_is_from(name: str) -> None:
    assert read_device(name, device_text(name)).title
    for key, table in tomllib.loads(device_text(name)).items():
        assert not isinstance(table, dict) or len(table["source"]) > 5, key


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_us = 25.0", "max_us = 25.0\nmax = 1", "conductance: unknown key max; valid: min_us"),
        ("fom_db = [162.8, 165.0]", "fom_db = [10.0]", "conversion: fom_db must be from 100"),
        ("fom_db = [162.8, 165.0]", "fom_db = [165.0, 162.8]", "must ascend, not 165, 162.8"),
        ("volts = [0.2]", "volts = 0.2", "read: volts must be a list of 1 to 64 numbers"),
        ("pulse_ns = [250.0]", "pulse_ns = [-1.0]", "read: pulse_ns must be from 0"),
        ("clock_mhz = 1000.0\n", "", "conversion: clock_mhz must be given"),
        ("[drift]", "[drfit]", "device x: unknown key drfit; valid: schema, kind"),
        ("t0_s = 20.0\n", "", "device x: drift: t0_s must be given"),
        ("t0_s = 20.0", "t0_s = 0.0", "drift: t0_s must be from 1e-09"),
        ("t0_s = 20.0", 't0_s = "20"', "drift: t0_s must be a finite number, not '20'"),
        ("t0_s = 20.0", "t0_s = inf", "drift: t0_s must be a finite number, not inf"),
        ("t0_s = 20.0", "t0_s = true", "drift: t0_s must be a finite number, not True"),
        ("min_us = 0.0", "min_us = 25.0", "min_us must be below max_us"),
        ("min_us = 0.0", "min_us = 90.0", "min_us must be below max_us"),
        ("min_us = 0.0", "min_us = -1.0", "conductance: min_us must be from 0"),
        ("sigma_us = [0.26348, 1.9650, -1.1731]", "sigma_us = [0.1, -1.0]", "less than 0"),
        ("sigma_us = [0.26348, 1.9650, -1.1731]", "sigma_us = []", "a list of 1 to 64 numbers"),
        ("mean_range = [0.049, 0.1]", "mean_range = [0.2, 0.1]", "mean_range must ascend"),
        ("mean = [0.0244, -0.0155]", "mean = [0.0244]", "mean must be two numbers, not 1"),
        ('per = "chip"', 'per = "batch"', "per must be one of chip, sample, mvm, not 'batch'"),
        ('kind = "sar"', 'kind = "flash"', "adc: kind must be one of sar, ramp, not 'flash'"),
        ("rows = 512", "rows = 512.0", "tile: rows must be a whole number"),
        ("columns = 512", "columns = 1", "tile: columns must be from 2"),
        ("schema = 1", "schema = 2", "schema must be 1, not 2"),
        ('kind = "crossbar"', 'kind = "photonic"', "conductance is of no photonic device"),
        ("schema = 1", "schema = ", "is no TOML"),
        ('title = "', 'title = "" # ', "title must be a text"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(old: str, new: str, message: str) -> None:
    assert PCM.count(old) >= 1
    with pytest.raises(UsageError) as raised:
        read_device("x", PCM.replace(old, new, 1))
    assert message in str(raised.value) and str(raised.value).startswith("device x")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("leakage = 0.2", "leakage = 1.0", "leakage must be from 0 to below 1, not 1"),
        ("precision = 15", "precision = 0", "precision must be from 1"),
        ('[detector]\nprecision = 127\nnoise = "gaussian"',
         '[detector]\nprecision = 127\nnoise = "poisson"', "sums are below 0, too"),
        ('[weight]\nprecision = 15\nnoise = "gaussian"\nleakage = 0.2',
         '[weight]\nprecision = 15\nnoise = "poisson"\nleakage = 0.9999', "out of reach"),
        ('noise = "gaussian"\nleakage = 0.2\nper = "chip"',
         'noise = "laplacian"\nleakage = 0.2\nper = "mvm"', "drawn per mvm, as sums of laplacian"),
        ('per = "mvm"', 'per = "sample"', "input: per must be mvm"),
        ('per = "chip"\n', "", "weight: per must be given"),
    ],
)  # fmt: skip
def test_a_wrong_photonic_file_is_refused(old: str, new: str, message: str) -> None:
    assert old in PHOTONIC
    with pytest.raises(UsageError, match=message):
        read_device("x", PHOTONIC.replace(old, new, 1))


def test_white_noise_that_stays_is_none() -> None:
    with pytest.raises(UsageError, match="white: per must be sample or mvm, not chip"):
        read_device("x", device_text("rram").replace('per = "mvm"', 'per = "chip"'))


def test_stuck_devices_are_shares() -> None:
    stuck = '\n[stuck]\noff = 0.6\non = 0.5\nsource = "test"\n'
    with pytest.raises(UsageError, match=r"stuck: off \+ on must be from 0 to 1, not 1.1"):
        read_device("x", PCM + stuck)


def test_a_device_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(PCM.replace("bits = 8", "bits = 40", 1))
    with pytest.raises(UsageError, match="dac: bits must be from 1 to 24, not 40"):
        Analog(device=str(path)).check_matrices({})
    path.write_text(PCM + "# " + "x" * 70_000)
    with pytest.raises(UsageError, match="more than 65536 bytes"):
        Analog(device=str(path)).check_matrices({})
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        Analog(device=str(path)).check_matrices({})
