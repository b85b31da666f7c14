"""`run` and `check`: what they take, what they refuse, what they print, and that they see a
difference."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.artifact import digest
from tests.cli.conftest import SHORT, Digits
from tests.cli.support import Done, assert_refused, bitwright, compiling, save_array

Run = Callable[..., Done]
FIELDS = {
    *("schema", "command", "model", "target", "artifact", "matches_reference", "vectors"),
    *("outputs_equal", "outputs_total", "accuracy", "metrics", "warnings"),
}


def _weights(artifact: Path, layer: str) -> NDArray[np.int64]:
    nodes = json.loads((artifact / "graph.json").read_text())["nodes"]
    (node,) = (node for node in nodes if node["name"] == layer)
    return np.array(node["attributes"]["weight"])


def _by_hand(artifact: Path, codes: NDArray[Any]) -> NDArray[np.int64]:
    """The small network on integers: its requantization is a shift by 4, to 0..31."""
    hidden = np.clip(np.rint(codes @ _weights(artifact, "fc1").T / 16), 0, 31)
    return (hidden @ _weights(artifact, "fc2").T).astype(np.int64)


# run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1, -2, 3, 0.125]], np.float32),
        np.array([[1, -2, 3, 0.125]], np.float16),
        np.array([1, -2, 3, 0.125]),
        np.array([[8, -16, 24, 1]]),
        np.array([[8, -16, 24, 1]], np.int8),
    ],
    ids=["float32", "float16", "one sample", "codes", "int8 codes"],
)
def test_run_gives_the_networks_integers(run_here: Run, artifact: Path, array: Any) -> None:
    save_array(Path("x.npy"), array)
    args = ("run", "--artifact", "artifact", "--input", "x.npy", "--output", "y.npy", "--json")
    done = run_here(*args)
    expected = _by_hand(artifact, np.array([[8, -16, 24, 1]]))
    assert done.code == 0 and done.err == ""
    assert done.json["outputs"] == expected.tolist()
    assert done.json["argmax"] == [int(expected.argmax())]
    assert np.load("y.npy").tolist() == (expected / 8).tolist()  # scales 1/2 and 1/4


def test_unsigned_integers_are_codes(run_here: Run, artifact: Path) -> None:
    save_array(Path("x.npy"), np.array([[100, 0, 127, 3]], np.uint8))
    done = run_here("run", "--artifact", "artifact", "--input", "x.npy", "--json")
    assert done.json["outputs"] == _by_hand(artifact, np.array([[100, 0, 127, 3]])).tolist()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.ones((3, 5), np.float32), "must be of shape (4,)"),
        (np.ones((2, 2, 4), np.float32), "must be of shape (4,)"),
        (np.ones((0, 4), np.float32), "not (0, 4)"),
        (np.float32(1), "not ()"),
        (np.full((1, 4), np.nan), "NaN or infinity"),
        (np.full((1, 4), -np.inf, np.float32), "NaN or infinity"),
        (np.full((1, 4), 1e300), "too large for float32"),
        (np.full((1, 4), 3e38, np.float32), "too large for float32"),
        (np.full((1, 4), 128), "must hold codes -128..127, not 128..128"),
        (np.full((1, 4), 200, np.uint8), "must hold codes -128..127, not 200..200"),
        (np.full((1, 4), 2**64 - 1, np.uint64), "18446744073709551615"),
        (np.ones((1, 4), np.complex64), "must hold numbers, not complex64"),
        (np.array([["a"] * 4]), "must hold numbers"),
        (np.zeros((1, 4), "M8[s]"), "must hold numbers, not datetime64"),
    ],
    ids=str,
)
def test_arrays_that_do_not_fit(run_here: Run, artifact: Path, array: Any, says: str) -> None:
    save_array(Path("x.npy"), array)
    done = run_here("run", "--artifact", "artifact", "--input", "x.npy", "--output", "y.npy")
    assert_refused(done, 2, says)
    assert not Path("y.npy").exists()


class Bomb:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("unpickled"),)


def _npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(48)


BROKEN = {
    "missing": None,
    "empty": b"",
    "text": b"1,2,3,4\n",
    "pickle": pickle.dumps(Bomb()),
    "object array": None,
    "zip": b"PK\x03\x04 and no more",
    "impossibly large": _npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1<<60, 4), }"),
    "very large": _npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 4), }"),
    "cut": _npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (300, 4), }"),
    "no header": _npy(b"(((((("),
    "open string": _npy(b"{'''descr"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("command", ["run", "check"])
def test_files_that_are_no_array(run_here: Run, artifact: Path, kind: str, command: str) -> None:
    content = BROKEN[kind]
    Path("data").mkdir()
    path = Path("data/x.npy")
    save_array(Path("data/y.npy"), np.zeros(3, int))
    if content is not None:
        path.write_bytes(content)
    elif kind == "object array":
        save_array(path, np.array([[Bomb()] * 4], dtype=object))
    if command == "run":
        done = run_here("run", "--artifact", "artifact", "--input", path)
    else:
        done = run_here("check", *compiling("digits_mlp")[1:], "--data", "data")
    assert_refused(done, 2, "data/x.npy")
    assert not Path("unpickled").exists()
    assert not Path("reports").exists()


def test_wrong_places_for_run(run_here: Run, artifact: Path) -> None:
    save_array(Path("x.npy"), np.ones((1, 4), np.float32))
    plain = ("run", "--artifact", "artifact", "--input", "x.npy")
    assert_refused(run_here(*plain, "--output", "y.csv"), 2, "must end in .npy")
    assert_refused(run_here(*plain, "--output", "no/y.npy"), 2, "there is no folder no")
    assert_refused(run_here(*plain[:3], "--input", "artifact"), 2, "artifact is not a file")
    for folder in ("nowhere", ".", "x.npy", "n" * 300):
        assert_refused(run_here("run", "--artifact", folder, "--input", "x.npy"), 2, folder)
    Path("folder.npy").mkdir()
    assert_refused(run_here(*plain, "--output", "folder.npy"), 2, "folder.npy: cannot be written")
    assert sorted(path.name for path in Path().iterdir()) == ["artifact", "folder.npy", "x.npy"]


# JSON ----------------------------------------------------------------------------------------


def test_compile_prints_one_json_object(digits: Digits) -> None:
    body = digits.parallel.json
    assert set(body) >= FIELDS
    assert (body["schema"], body["command"]) == (1, "compile")
    assert (body["model"], body["target"]) == ("digits_mlp", "hls4ml")
    assert (digits.runs.parent / body["artifact"] / "manifest.json").is_file()
    assert body["matches_reference"] is True
    assert body["outputs_equal"] == body["outputs_total"] == 10 * body["vectors"]
    assert list(body["accuracy"]) == ["float", "quantized", "integer", "simulation"]
    for metric in [*body["metrics"], *body["accuracy"].values()]:
        assert set(metric) == {"name", "value", "unit", "kind", "source", "interval"}
        assert metric["kind"] in ("measured", "estimated", "assumed")


def test_run_and_check_print_one_json_object(digits: Digits) -> None:
    folder = digits.runs.parent
    args = ("--runs", "runs", "--opts", f"{SHORT} io_type=io_parallel", "--json")
    done = bitwright("check", *compiling("digits_mlp", *args)[1:], cwd=folder)
    assert done.code == 0, done
    body = done.json
    assert set(body) >= FIELDS and body["command"] == "check"
    assert body["vectors"] == 397 and body["outputs_equal"] == body["outputs_total"] == 3970
    stages = body["accuracy"]
    assert list(stages) == ["float", "quantized", "integer", "simulation"]
    assert stages["simulation"]["value"] == stages["integer"]["value"]
    compiled = digits.parallel.json
    assert body["artifact"] == compiled["artifact"]
    assert stages["integer"] == compiled["accuracy"]["integer"]

    save_array(folder / "x.npy", np.zeros((2, 64), np.float32))
    done = bitwright(
        "run", "--artifact", body["artifact"], "--input", "x.npy", "--json", cwd=folder
    )
    assert done.code == 0 and set(done.json) >= FIELDS | {"outputs", "argmax"}
    assert done.json["model"] == "digits_mlp" and done.json["vectors"] == 2
    assert len(done.json["outputs"]) == len(done.json["argmax"]) == 2


# check with the user's data ------------------------------------------------------------------


def _samples(artifact: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Ten samples; the network is right on the first seven."""
    rng = np.random.default_rng(0)
    codes = rng.integers(-128, 128, (10, 4))
    labels = _by_hand(artifact, codes).argmax(axis=1)
    labels[7:] = (labels[7:] + 1) % 3
    return codes / 8, labels


@pytest.mark.parametrize("form", ["npz", "folder", "csv", "NPZ"])
def test_check_reads_data(compiled: Path, form: str) -> None:
    x, y = _samples(compiled)
    folder = compiled.parent
    data = folder / f"data.{form}"
    if form == "folder":
        data.mkdir()
        save_array(data / "x.npy", x)
        save_array(data / "y.npy", y)
    elif form == "csv":
        np.savetxt(data, np.column_stack([x, y]), delimiter=",")
    else:
        with data.open("wb") as file:
            np.savez_compressed(file, x=x, y=y.astype(np.float32))
    args = compiling("small.onnx", "--out", "artifact", "--data", data, "--json")[1:]
    done = bitwright("check", *args, cwd=folder)
    assert done.code == 0, done
    assert done.json["vectors"] == 10 and done.json["matches_reference"] is True
    assert list(done.json["accuracy"]) == ["integer", "simulation"]
    assert done.json["accuracy"]["simulation"]["value"] == pytest.approx(0.7)


def _npz(**arrays: Any) -> None:
    np.savez("data.npz", **arrays)


IMAGES = np.zeros((3, 64), np.float32)
LABELS = np.arange(3)
BAD_DATA: dict[str, tuple[str, Callable[[], Any], str]] = {
    "missing": ("data.npz", lambda: None, "no such file"),
    "another kind": ("data.txt", lambda: None, "must be a folder, .npz or .csv"),
    "no labels": ("data.npz", lambda: _npz(x=IMAGES), "must hold the arrays x (samples) and y"),
    "not a zip": ("data.npz", lambda: Path("data.npz").write_text("x"), "not a .npz archive"),
    "an .npy": (
        "data.npz",
        lambda: save_array(Path("a.npy"), IMAGES).rename("data.npz"),
        "not a .npz archive",
    ),
    "fewer labels": ("data.npz", lambda: _npz(x=IMAGES, y=LABELS[:2]), "do not go with labels"),
    "no samples": ("data.npz", lambda: _npz(x=IMAGES[:0], y=LABELS[:0]), "do not go with labels"),
    "scalars": ("data.npz", lambda: _npz(x=1.0, y=LABELS), "do not go with labels"),
    "one-hot": ("data.npz", lambda: _npz(x=IMAGES, y=np.eye(3)), "do not go with labels"),
    "wrong size": ("data.npz", lambda: _npz(x=IMAGES[:, :9], y=LABELS), "must be of shape (64,)"),
    "NaN": ("data.npz", lambda: _npz(x=IMAGES * np.nan, y=LABELS), "NaN or infinity"),
    "halves": ("data.npz", lambda: _npz(x=IMAGES, y=LABELS / 2), "must be whole numbers"),
    "vast": ("data.npz", lambda: _npz(x=IMAGES, y=LABELS * 1e300), "must be whole numbers"),
    "from 1 to 10": (
        "data.npz",
        lambda: _npz(x=IMAGES, y=LABELS + 8),
        "labels must be from 0 to 9, one for each output, not 8 to 10",
    ),
    "negative": ("data.npz", lambda: _npz(x=IMAGES, y=LABELS - 1), "labels must be from 0 to 9"),
    "words": ("data.npz", lambda: _npz(x=IMAGES, y=np.array(["a"] * 3)), "must hold numbers"),
    "pickled": (
        "data.npz",
        lambda: _npz(x=np.array([Bomb()], dtype=object), y=LABELS),
        "Object arrays cannot be loaded",
    ),
    "csv header": ("d.csv", lambda: Path("d.csv").write_text("a,b\n1,2\n"), "without a header"),
    "csv gap": ("d.csv", lambda: Path("d.csv").write_text("1,2\n1\n"), "d.csv is not a table"),
    "csv NaN": ("d.csv", lambda: Path("d.csv").write_text("1,nan,2\n"), "NaN or infinity"),
    "csv empty": ("d.csv", lambda: Path("d.csv").write_text(""), "needs rows"),
    "csv binary": ("d.csv", lambda: Path("d.csv").write_bytes(b"\xff\0\x80"), "not a table"),
    "csv labels only": ("d.csv", lambda: Path("d.csv").write_text("1\n2\n"), "needs rows"),
    "empty folder": ("folder", lambda: Path("folder").mkdir(), "folder/x.npy: no such file"),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data_is_refused_before_any_training(run_here: Run, kind: str) -> None:
    name, make, says = BAD_DATA[kind]
    make()
    assert_refused(run_here("check", *compiling("digits_mlp")[1:], "--data", name), 2, name, says)
    assert not Path("unpickled").exists()
    assert not Path("reports").exists()


def test_an_archive_that_unpacks_to_too_much(
    run_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flow.user_data.MAX_BYTES", 1 << 20)
    np.savez_compressed("data.npz", x=np.zeros((1 << 12, 64)), y=np.zeros(1 << 12))
    assert Path("data.npz").stat().st_size < 1 << 20
    done = run_here("check", *compiling("digits_mlp")[1:], "--data", "data.npz")
    assert_refused(done, 2, "data.npz: unpacks to more than")


def test_images_with_channels_last_are_not_reshaped_into_nonsense(run_here: Run) -> None:
    """(n, 8, 8, 1) is the same image as (n, 1, 8, 8); (n, 1, 16, 4) has its size only."""
    _npz(x=np.zeros((3, 1, 16, 4)), y=LABELS)
    args = compiling("digits_cnn", "--data", "data.npz")[1:]
    assert_refused(run_here("check", *args), 2, "must be of shape (1, 8, 8), not (1, 16, 4)")


def test_a_file_brings_no_data(run_here: Run, artifact: Path) -> None:
    done = run_here("check", *compiling(artifact / "model.onnx")[1:])
    assert_refused(done, 2, "brings no data; give DATA=")
    assert not Path("reports").exists()


# An artifact that computes something else ----------------------------------------------------


def _tamper(artifact: Path, name: str, change: Callable[[list[str]], None]) -> None:
    """Change constants that the simulation reads, and make the manifest agree."""
    path = artifact / "project/firmware/weights" / name
    entries = path.read_text().split(", ")
    change(entries)
    path.write_text(", ".join(entries))
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["files"][str(path.relative_to(artifact))] = digest(path)
    (artifact / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(("row", "channel", "vector"), [(0, 0, 2), (3, 4, 1)])
def test_a_changed_weight_of_the_first_layer_is_located(
    run_here: Run, artifact: Path, row: int, channel: int, vector: int
) -> None:
    weight = int(_weights(artifact, "fc1")[channel, row])
    other = 7 if weight < 7 else 3
    codes = np.zeros((4, 4), np.int64)
    codes[vector, row] = 20
    _tamper(artifact, "w2.txt", lambda all: all.__setitem__(row * 5 + channel, f"{other / 16:.4f}"))
    save_array(Path("x.npy"), codes)
    done = run_here("run", "--artifact", "artifact", "--input", "x.npy", "--output", "y.npy")
    expected, found = (int(np.clip(np.rint(20 * w / 16), 0, 31)) for w in (weight, other))
    assert expected != found
    assert_refused(
        done,
        4,
        "matches reference: NO (3 of 4 vectors",
        f"layer relu1_quant, vector {vector}, channel {channel}: "
        f"reference {expected}, artifact {found} (1 of ",
    )
    assert not Path("y.npy").exists()


def test_a_changed_weight_of_the_last_layer_is_located(run_here: Run, artifact: Path) -> None:
    first, last = _weights(artifact, "fc1"), _weights(artifact, "fc2")
    codes = np.zeros((6, 4), np.int64)
    codes[5] = np.where(first[2] > 0, 100, 0)  # wakes hidden channel 2
    hidden = np.clip(np.rint(codes @ first.T / 16), 0, 31).astype(int)
    assert hidden[5, 2] > 0 and not hidden[:5].any()
    weight = int(last[1, 2])
    other = weight + (1 if weight < 7 else -1)
    _tamper(artifact, "w3.txt", lambda all: all.__setitem__(2 * 3 + 1, str(other)))
    save_array(Path("x.npy"), codes)
    done = run_here("run", "--artifact", "artifact", "--input", "x.npy")
    expected = int(hidden[5] @ last[1])
    found = expected + (other - weight) * int(hidden[5, 2])
    assert_refused(
        done,
        4,
        f"layer fc2, vector 5, channel 1: reference {expected}, artifact {found} (1 of ",
    )


def test_check_sees_a_changed_weight(artifact: Path, tmp_path: Path) -> None:
    x, y = _samples(artifact)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    _tamper(artifact, "w3.txt", lambda all: all.__setitem__(0, "1" if all[0] != "1" else "2"))
    args = compiling(artifact / "model.onnx", "--out", "artifact", "--data", "data.npz")[1:]
    # The artifact's own name for the network is that of the file it was compiled from.
    (tmp_path / "small.onnx").write_bytes((artifact / "model.onnx").read_bytes())
    args = ("--model", "small.onnx", *args[2:])
    done = bitwright("check", *args, cwd=tmp_path)
    assert_refused(done, 4, "matches reference: NO", "first difference: layer fc2, vector")
