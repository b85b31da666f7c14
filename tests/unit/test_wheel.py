"""The built wheel holds everything, and works away from the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.network.nets import Net

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("flow", "targets", "models"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("bitwright-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_every_file_is_in_the_wheel(unpacked: Path) -> None:
    for package in ("flow", "targets", "models"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (unpacked / path.relative_to(ROOT)).is_file(), path


def test_the_wheel_compiles_a_network(unpacked: Path, tmp_path: Path) -> None:
    net = Net((2,))
    w = net.quant(net.constant([[0.5, 0.25]]), 0.25, 4)
    path = net.save(tmp_path / "net.onnx", net.node("Gemm", [net.quant("x", 0.25, 4), w], transB=1))
    command = [sys.executable, "-m", "flow", "compile", "--model", str(path), "--target", "hls4ml"]
    environment = {"PYTHONPATH": str(unpacked), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "matches reference: yes" in done.stdout


def test_a_shadowing_package_is_refused(tmp_path: Path, unpacked: Path) -> None:
    """Someone else's `models` before ours on the path: refused, with both places named."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", "import flow"],
        env={"PYTHONPATH": f"{tmp_path}:{unpacked}"},
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"found {tmp_path}/models" in done.stderr
    assert f"expected {unpacked}/models" in done.stderr.replace("\n", " ")
