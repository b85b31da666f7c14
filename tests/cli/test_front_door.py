"""What the command imports, its help, and `make` in front of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.support import ROOT, Done, bitwright, compiling, environment, mlp, script

HEAVY = {
    "torch",
    "brevitas",
    "numpy",
    "onnx",
    "qonnx",
    "hls4ml",
    "sklearn",
    "scipy",
    "numba",
    "rich",
}


def _imported(*args: str, cwd: Path) -> tuple[int, set[str]]:
    """The exit code of the command, and the packages that it imported."""
    program = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_module('flow', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as stop:\n"
        "    code = stop.code\n"
        "print(code or 0, *{name.split('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    code, *names = done.stdout.splitlines()[-1].split()
    return int(code), set(names)


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        *(
            (name, "--help")
            for name in ("compile", "check", "float-check", "run", "list", "doctor")
        ),
        *((name, "--help") for name in ("experiment", "pareto", "schedule")),
    ],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(tmp_path: Path, args: tuple[str, ...]) -> None:
    code, names = _imported(*args, cwd=tmp_path)
    assert code == 0
    assert "flow" in names and not names & HEAVY


def test_help_names_every_command_and_exit_code(tmp_path: Path) -> None:
    done = bitwright("--help", cwd=tmp_path)
    for word in ("compile", "check", "run", "list", "doctor", "0 done", "2 wrong use", "4 differs"):
        assert word in done.out


def test_compiling_a_file_imports_nothing_of_training(tmp_path: Path) -> None:
    mlp().save(tmp_path / "m.onnx")
    code, names = _imported(*map(str, compiling("m.onnx")), cwd=tmp_path)
    assert code == 0
    assert {"numpy", "onnx", "hls4ml"} <= names
    assert not names & {"torch", "brevitas", "sklearn"}


def test_list_and_doctor(tmp_path: Path) -> None:
    listed = bitwright("list", cwd=tmp_path)
    assert listed.code == 0 and listed.err == ""
    for word in (
        "digits_mlp",
        "digits_cnn",
        "target hls4ml",
        "weight_bits=4",
        "LAYER.reuse_factor",
    ):
        assert word in listed.out
    assert "LAYER.\n" not in listed.out  # a target without options of one layer
    found = bitwright("doctor", cwd=tmp_path, env=environment(PATH="", CXX="/nonexistent"))
    assert found.code == 0 and found.err == ""
    assert "missing g++" in found.out and "get it: apt-get install g++" in found.out
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError(name='onnx')\n")
    mlp().save(tmp_path / "m.onnx")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = bitwright(*compiling("m.onnx"), cwd=tmp_path, env=environment(PYTHONPATH=paths))
    assert done.code == 3 and "Traceback" not in done.err
    assert "the package onnx is not installed. Get it: pip install" in done.err


# make ----------------------------------------------------------------------------------------

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """What make takes for the environment: its python prints its arguments, one a line."""
    script(tmp_path / "venv/bin/python", ['for arg in "$@"; do printf "<%s>\\n" "$arg"; done'])
    (tmp_path / "venv/.ready").touch()
    return tmp_path / "venv"


def make(*args: str, **variables: str) -> Done:
    done = subprocess.run(
        ["make", "--no-print-directory", "-C", str(ROOT), *args],
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@needs_make
def test_make_alone_prints_help() -> None:
    done = make()
    assert done.code == 0 and done.err == ""
    for word in (
        "make compile",
        "make check",
        "make float-check MODEL=… [TOOL=onnxruntime|qonnx]",
        "make run",
        "make schedule",
        "make doctor",
        "make test",
        "OPTS",
    ):
        assert word in done.out
    assert make("help").out == done.out


@needs_make
def test_make_passes_everything_on(venv: Path) -> None:
    given = ("MODEL=x y", "TARGET=z", "OPTS=a=b c=d", "OUT=my folder", "DATA=d.npz", "JSON=1")
    done = make("check", f"VENV={venv}", *given)
    assert done.out.splitlines() == [
        *("<-m>", "<flow>", "<check>", "<--model=x y>", "<--target=z>", "<--opts=a=b c=d>"),
        *("<--out=my folder>", "<--json>", "<--data=d.npz>"),
    ]
    done = make("run", f"VENV={venv}", "ARTIFACT=a b", "INPUT=x.npy", "OUTPUT=y.npy")
    assert done.out.splitlines()[2:] == [
        *("<run>", "<--artifact=a b>", "<--input=x.npy>", "<--output=y.npy>")
    ]
    done = make("experiment", f"VENV={venv}", "NAME=a b", "JSON=1")
    assert done.out.splitlines()[2:] == ["<experiment>", "<a b>", "<--json>"]
    done = make("pareto", f"VENV={venv}", "MODEL=a b", "ACCURACY=97 %")
    assert done.out.splitlines()[2:] == ["<pareto>", "<a b>", "<--accuracy=97 %>"]
    shown = make("-n", "compile", f"VENV={venv}", "MODEL=x", "TARGET=y", "OPTS=a=b c=d").out
    assert shown.startswith(f'{venv}/bin/python -m flow compile --model="$MODEL"')


@needs_make
@pytest.mark.parametrize(
    "hostile",
    [
        'it\'s "quoted"',
        "$HOME/x.onnx",
        "$(touch pwned).onnx",
        "$(shell touch pwned)",
        "`touch pwned`",
        "x; touch pwned",
        "a#b\\c %d * ~",
        "$$x",
    ],
)
@pytest.mark.parametrize("where", ["argument", "environment"])
def test_no_shell_reads_what_the_user_gives(
    venv: Path, tmp_path: Path, hostile: str, where: str
) -> None:
    args = ["compile", "TARGET=y", f"VENV={venv}"]
    done = (
        make(*args, f"MODEL={hostile}", f"OPTS={hostile}")
        if where == "argument"
        else make(*args, MODEL=hostile, OPTS=hostile)
    )
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert f"<--model={hostile}>" in lines
    assert f"<--opts={hostile}>" in lines
    assert not (ROOT / "pwned").exists()


@needs_make
def test_an_error_reaches_the_user_through_make(tmp_path: Path) -> None:
    script(tmp_path / "venv/bin/python", [f'exec "{sys.executable}" "$@"'])
    (tmp_path / "venv/.ready").touch()
    done = make("compile", f"VENV={tmp_path / 'venv'}", "MODEL=digits_mpl", "TARGET=hls4ml")
    assert done.code == 2
    assert "bitwright: error: unknown model 'digits_mpl' (did you mean 'digits_mlp'?)" in done.err
