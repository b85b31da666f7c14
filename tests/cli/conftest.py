"""Artifacts that are made once for all tests of the command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from flow.cli import main
from tests.cli.support import Done, bitwright, compiling, finish, mlp, start

SHORT = "epochs=1 float_epochs=1"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network's artifact; not to be changed."""
    folder = tmp_path_factory.mktemp("compiled")
    mlp().save(folder / "small.onnx")
    done = bitwright(*compiling("small.onnx", "--out", "artifact"), cwd=folder)
    assert done.code == 0, done
    return folder / "artifact"


@pytest.fixture
def artifact(compiled: Path, tmp_path: Path) -> Path:
    """A copy of the small network's artifact."""
    return Path(shutil.copytree(compiled, tmp_path / "artifact"))


@dataclass(frozen=True)
class Digits:
    """digits_mlp, shortly trained, and compiled twice at once with different options."""

    runs: Path
    parallel: Done
    stream: Done


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    folder = tmp_path_factory.mktemp("digits")
    both = [
        start(
            *compiling("digits_mlp", "--opts", f"{SHORT} io_type={io}", "--runs", "runs", "--json"),
            cwd=folder,
        )
        for io in ("io_parallel", "io_stream")
    ]
    parallel, stream = (finish(process) for process in both)
    return Digits(folder / "runs", parallel, stream)


@pytest.fixture
def run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Runs the command in this process, in a folder of its own: quick, for what is refused."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str | Path) -> Done:
        capsys.readouterr()
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run
