"""Training: reproducible, resumable, never finished by half; its export means what was trained."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from flow.errors import FlowError, UsageError
from flow.qat import data
from flow.qat import train as training
from flow.qat.augment import distorted
from flow.qat.checkpoint import CHECKPOINT, load
from flow.qat.data import Split
from flow.qat.export import export
from flow.qat.formats import Format, Rule
from flow.qat.network import (
    Network,
    float_network,
    frozen,
    input_codes,
    merge_batchnorm,
    quantized_network,
)
from flow.qat.recipe import (
    INPUT,
    Add,
    Dense,
    Flatten,
    GlobalPool,
    Granularity,
    Keep,
    Layer,
    Recipe,
    Scale,
)
from flow.qat.result import MODEL, REFERENCE, TRAINING, Phase, Progress, TrainResult, finished
from flow.qat.train import train
from models import MODELS
from tests.qat.support import CNN, MLP, RESNET, SEPARABLE, quantizers, run_qonnx, variant

VARIANTS = [
    pytest.param(recipe, scale, granularity, id=f"{recipe.name}-{scale.value}-{granularity.value}")
    for recipe, scale, granularity in (
        *itertools.product((MLP, CNN), Scale, Granularity),
        (RESNET, Scale.PO2, Granularity.TENSOR),
        (RESNET, Scale.FLOAT, Granularity.CHANNEL),
        (SEPARABLE, Scale.PO2, Granularity.CHANNEL),
    )
]
EPOCHS = MLP.float_epochs + MLP.epochs


class Killed(Exception):
    """Stands for whatever ends a run from outside."""


def kill_after(epochs: int) -> Callable[[Progress], None]:
    seen: list[Progress] = []

    def progress(now: Progress) -> None:
        seen.append(now)
        if len(seen) == epochs:
            raise Killed

    return progress


def contents(folder: Path) -> tuple[bytes, bytes]:
    return (folder / MODEL).read_bytes(), (folder / REFERENCE).read_bytes()


def assert_same_training(a: TrainResult, b: TrainResult) -> None:
    assert a.history == b.history
    assert (a.accuracy, a.float_accuracy, a.best_epoch) == (
        b.accuracy,
        b.float_accuracy,
        b.best_epoch,
    )
    assert contents(a.folder) == contents(b.folder)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    # Waiting for a busy second core costs small networks far more than it gives.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(MLP, tmp_path_factory.mktemp("uninterrupted"))


def digits_of(recipe: Recipe) -> Split:
    return data.load(recipe.data, recipe.input_shape)


def trained_a_little(recipe: Recipe) -> Network:
    """A quantized network after a few steps, so that scales have moved; in eval mode."""
    split = digits_of(recipe)
    x, y = torch.from_numpy(split.train_x), torch.from_numpy(split.train_y)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = quantized_network(recipe, float_network(recipe), x).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for rows in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
    return network.eval()


# --- resuming


@pytest.mark.parametrize("epochs", range(1, EPOCHS + 1))
def test_run_killed_after_any_epoch_ends_with_the_same_bits(
    epochs: int, uninterrupted: TrainResult, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        train(MLP, tmp_path, kill_after(epochs))
    assert finished(MLP, tmp_path) is None

    again: list[Progress] = []
    result = train(MLP, tmp_path, again.append)

    assert len(again) == EPOCHS - epochs
    assert_same_training(result, uninterrupted)


def test_run_killed_by_the_system_ends_with_the_same_bits(
    uninterrupted: TrainResult, tmp_path: Path
) -> None:
    # The child says when an epoch is over, then waits for the kill: wherever in writing, learning
    # or talking the second one hits is up to chance.
    program = (
        "import sys, pathlib\n"
        "from flow.qat.train import train\n"
        "from tests.qat.support import MLP\n"
        "train(MLP, pathlib.Path(sys.argv[1]), lambda p: print(p.epoch, flush=True))\n"
    )
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / TRAINING).exists()

    assert_same_training(train(MLP, tmp_path), uninterrupted)


def test_seed_decides_everything(uninterrupted: TrainResult, tmp_path: Path) -> None:
    torch.manual_seed(12345)  # whatever the caller's random state is
    assert_same_training(train(MLP, tmp_path / "same"), uninterrupted)
    other = train(dataclasses.replace(MLP, seed=1), tmp_path / "other")
    assert contents(other.folder) != contents(uninterrupted.folder)


def test_training_leaves_the_callers_random_state_and_threads_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train(dataclasses.replace(MLP, float_epochs=1, epochs=1), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_the_last_epoch_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    """At this rate the network gets worse again: its best epoch's weights are other ones."""
    recipe = dataclasses.replace(MLP, learning_rate=0.05, epochs=6)
    best, last = (
        train(dataclasses.replace(recipe, keep=keep), tmp_path / keep.value) for keep in Keep
    )
    ours = [epoch.accuracy or 0 for epoch in best.history if epoch.phase is Phase.QUANTIZED]
    assert best.best_epoch == max(range(1, 7), key=lambda n: (ours[n - 1], n)) != 6
    assert last.best_epoch == 6 and contents(last.folder) != contents(best.folder)
    assert "keep" not in recipe.to_json() and recipe.digest() != last.digest


def test_a_float_twin_is_trained_once_and_changes_no_bit(
    uninterrupted: TrainResult, tmp_path: Path
) -> None:
    twins = tmp_path / "twins"
    fewer_bits = dataclasses.replace(MLP, weight_bits=3, scale=Scale.FLOAT, rule=Rule.DAQ)
    train(fewer_bits, tmp_path / "first", twins=twins)
    seen: list[Progress] = []
    second = train(MLP, tmp_path / "second", seen.append, twins=twins)
    assert {progress.phase for progress in seen} == {Phase.QUANTIZED}
    assert_same_training(second, uninterrupted)

    # Another start, or a stop in between, is not taken for the same.
    other = dataclasses.replace(MLP, seed=1)
    assert MLP.twin_digest() == fewer_bits.twin_digest() != other.twin_digest()
    with pytest.raises(Killed):
        train(other, tmp_path / "other", kill_after(1), twins=twins)
    assert len(list(twins.iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"data": "mnist"},
        {"layers": (Dense("fc1", 13), Dense("fc2", 10))},
        {"overrides": (("fc1", "act_format", Format.BINARY),)},
        {"act_format": Format.ASYMMETRIC},
        {"float_epochs": 3},
        {"batch_size": 65},
        {"learning_rate": 0.1},
        {"augment": 0.25},
        {"standardize": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_a_float_twin_makes_another_one(change: dict[str, Any]) -> None:
    plain = dataclasses.replace(MLP, overrides=())
    assert dataclasses.replace(plain, **change).twin_digest() != plain.twin_digest()


# --- checkpoints that do not serve


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"",
        lambda whole: b"not a checkpoint",
        lambda whole: whole[:6000] + bytes(64) + whole[6064:],
    ],
    ids=["cut", "empty", "text", "zeros inside"],
)
def test_damaged_checkpoint_is_ignored_with_a_warning(
    damage: Callable[[bytes], bytes],
    uninterrupted: TrainResult,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Killed):
        train(MLP, tmp_path, kill_after(3))
    path = tmp_path / CHECKPOINT
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert load(MLP, tmp_path) is None
    assert "starting over" in caplog.text

    assert_same_training(train(MLP, tmp_path), uninterrupted)


def test_checkpoint_of_another_recipe_is_ignored_with_a_warning(
    uninterrupted: TrainResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Killed):
        train(dataclasses.replace(MLP, weight_bits=3), tmp_path, kill_after(3))
    with caplog.at_level(logging.WARNING):
        assert_same_training(train(MLP, tmp_path), uninterrupted)
    assert "another recipe" in caplog.text


# --- finished folders


def test_finished_training_is_not_repeated(uninterrupted: TrainResult) -> None:
    path = uninterrupted.folder / TRAINING
    stamp = path.stat().st_mtime_ns
    again: list[Progress] = []
    assert train(MLP, uninterrupted.folder, again.append) == uninterrupted
    assert again == []
    assert path.stat().st_mtime_ns == stamp


def test_finished_training_is_read_without_torch(uninterrupted: TrainResult) -> None:
    program = (
        "import sys, pathlib\n"
        "from flow.qat.result import finished\n"
        "from models.digits_mlp import RECIPE\n"
        "assert finished(RECIPE, pathlib.Path(sys.argv[1])) is None\n"
        "assert not {'torch', 'brevitas', 'onnx'} & set(sys.modules)\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(uninterrupted.folder)],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
    )


@pytest.mark.parametrize("name", [MODEL, REFERENCE])
def test_changed_file_makes_a_folder_unfinished(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = dataclasses.replace(MLP, float_epochs=1, epochs=1)
    result = train(recipe, tmp_path)
    before = contents(tmp_path)
    (tmp_path / name).write_bytes(b"")
    assert finished(recipe, tmp_path) is None
    assert name in caplog.text
    # Nothing is learned again, only exported again.
    again: list[Progress] = []
    assert_same_training(train(recipe, tmp_path, again.append), result)
    assert again == []
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", ["", "[]", '{"digest": 1}', "\x00"])
def test_damaged_record_makes_a_folder_unfinished(text: str, tmp_path: Path) -> None:
    (tmp_path / TRAINING).write_text(text)
    assert finished(MLP, tmp_path) is None


def test_record_holds_what_was_measured(uninterrupted: TrainResult) -> None:
    fields = json.loads((uninterrupted.folder / TRAINING).read_text())
    assert fields["digest"] == MLP.digest()
    assert fields["seed"] == MLP.seed
    assert {"torch", "brevitas", "numpy"} <= set(fields["versions"])
    assert [row["phase"] for row in fields["history"]] == ["float"] * 2 + ["quantized"] * 2
    reference = np.load(uninterrupted.reference)
    hits = (reference["y"].argmax(1) == reference["labels"]).mean()
    assert fields["accuracy"] == pytest.approx(hits, abs=1e-12)
    assert fields["seconds"] > 0


# --- what cannot be trained


def test_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count(1)

    def poisoned(x: torch.Tensor, *rest: object) -> torch.Tensor:
        return x * float("nan") if next(calls) == 4 else x

    monkeypatch.setattr(training, "distorted", poisoned)
    with pytest.raises(FlowError, match=r"quantized phase, step 1 of epoch 2.*learning_rate"):
        train(MLP, tmp_path)
    kept = load(f"{MLP.digest()} {digits_of(MLP).digest()}", tmp_path)
    assert kept is not None
    assert (kept.phase, kept.epoch) == (Phase.QUANTIZED, 1)
    assert all(bool(torch.isfinite(value).all()) for value in kept.model.values())
    assert finished(MLP, tmp_path) is None


def test_inputs_that_overflow_stop_in_the_float_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = data.load("digits", (64,))
    huge = dataclasses.replace(split, train_x=split.train_x * np.float32(1e30))
    monkeypatch.setattr(data, "load", lambda *_, **__: huge)
    with pytest.raises(FlowError, match=r"float phase, (step|validation)"):
        train(MLP, tmp_path)
    assert not (tmp_path / TRAINING).exists()


def test_useless_learning_rate_never_exports_what_is_not_a_number(tmp_path: Path) -> None:
    result = train(dataclasses.replace(MLP, learning_rate=10.0), tmp_path)
    assert np.isfinite(np.load(result.reference)["y"]).all()


@pytest.mark.parametrize("value", [-0.25, np.nan, np.inf])
def test_input_that_cannot_be_quantized_unsigned_is_refused(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = data.load("digits", (64,))
    split.test_x[0, 0] = value
    monkeypatch.setattr(data, "load", lambda *_, **__: split)
    with pytest.raises(UsageError, match="test sample"):
        train(MLP, tmp_path)


def test_augment_needs_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = dataclasses.replace(data.load("digits", (64,)), image_shape=None)
    monkeypatch.setattr(data, "load", lambda *_, **__: split)
    with pytest.raises(UsageError, match="augment"):
        train(MLP, tmp_path)


@pytest.mark.parametrize(
    "layers",
    [
        (),
        (Dense("fc", 10), Flatten("flat")),
        (Dense("fc", 10), Dense("fc", 10)),
        (Dense("input", 10),),
        (Dense("a", 8), Dense("a_act", 10)),
        (Dense("a", 8), Add("sum", other="b"), Dense("fc", 10)),
        (Dense("a", 8), Dense("b", 6), Add("sum", other="a"), Dense("fc", 10)),
        (Dense("a", 8), GlobalPool("pool"), Dense("fc", 10)),
    ],
    ids=[
        *("none", "last not dense", "same name", "name of the input", "name of an activation"),
        *("sum with a layer that is not there", "sum of two shapes", "pool of no image"),
    ],
)
def test_layers_that_make_no_network_are_refused(layers: tuple[Layer, ...]) -> None:
    recipe = dataclasses.replace(MLP, layers=layers, overrides=())
    with pytest.raises(UsageError):
        quantized_network(recipe, float_network(recipe), torch.rand(8, 64))


def test_a_layer_has_only_the_bits_that_mean_something() -> None:
    with pytest.raises(UsageError, match=r"unknown layer 'pool'.*conv1"):
        dataclasses.replace(RESNET, overrides=(("pool", "weight_bits", 4),))
    with pytest.raises(UsageError, match="accumulator"):
        dataclasses.replace(RESNET, overrides=(("fc", "act_bits", 4),))
    assert [RESNET.signed(n) for n in ("conv1", "conv2", "add1", "pool", "fc")] == [
        *(False, True, False, False, True)
    ]


def test_last_batch_of_one_sample_is_left_out(tmp_path: Path) -> None:
    # 1,260 samples to fit: 1,260 = 1 (mod 1,259).
    recipe = dataclasses.replace(MLP, batch_size=1259, float_epochs=1, epochs=1)
    assert train(recipe, tmp_path).test_samples == 397


# --- the networks


def test_merging_batchnorm_keeps_the_function() -> None:
    x = torch.rand(64, 1, 8, 8)
    twin = float_network(CNN).train()
    for _ in range(5):
        twin(x)  # moves the running statistics away from 0 and 1
    twin.eval()
    merged = merge_batchnorm(CNN, twin)
    assert not [m for m in merged.modules() if "BatchNorm" in type(m).__name__]
    assert torch.allclose(merged(x), twin(x), atol=1e-5)


@pytest.mark.parametrize(("recipe", "scale", "granularity"), VARIANTS)
def test_export_means_what_brevitas_computes(
    recipe: Recipe, scale: Scale, granularity: Granularity, tmp_path: Path
) -> None:
    recipe = variant(recipe, scale, granularity)
    network = trained_a_little(recipe)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    test_x = torch.from_numpy(data.load(recipe.data, recipe.input_shape).test_x)
    with torch.no_grad():
        expected = network(test_x).numpy()

    path = export(network, recipe, digits_of(recipe), tmp_path)

    with torch.no_grad():
        assert np.array_equal(network(test_x).numpy(), expected)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)

    y = run_qonnx(path, test_x.numpy())
    reference = np.load(tmp_path / REFERENCE)
    assert reference["y"].dtype == np.float64
    assert np.array_equal(reference["x"], test_x.numpy())
    if scale is Scale.PO2:
        assert np.array_equal(y, expected)
        assert np.array_equal(reference["y"], expected)
    else:
        # Float32 tools differ from each other and from float64 by rounding, not by codes.
        assert np.allclose(y, expected, rtol=0, atol=1e-5)
        assert np.allclose(reference["y"], expected, rtol=0, atol=1e-5)

    first = contents(tmp_path)
    export(network, recipe, digits_of(recipe), tmp_path)
    assert contents(tmp_path) == first


@pytest.mark.parametrize(("recipe", "scale", "granularity"), VARIANTS)
def test_every_quantizer_has_the_recipes_bits_and_kind_of_scale(
    recipe: Recipe, scale: Scale, granularity: Granularity, tmp_path: Path
) -> None:
    recipe = variant(recipe, scale, granularity)
    path = export(trained_a_little(recipe), recipe, digits_of(recipe), tmp_path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=False)
    assert {node.op_type for node in model.graph.node} <= {
        *("Quant", "Relu", "Gemm", "Conv", "MaxPool", "Flatten", "Add", "GlobalAveragePool")
    }
    assert [value.name for value in model.graph.input] == ["x"]
    assert [value.name for value in model.graph.output] == ["y"]

    expected = {"input.act_quant": (recipe.input_bits, 0)}
    for row in recipe.summary():
        if row.weight is not None and row.bias is not None:
            expected[f"{row.name}.weight_quant"] = (row.weight, 1)
            expected[f"{row.name}.bias_quant"] = (row.bias, 1)
        if row.act is not None:
            expected[f"{row.name}_act.act_quant"] = (row.act, int(recipe.signed(row.name)))
    found = quantizers(path)
    assert {name: (int(q["bits"]), q["signed"]) for name, q in found.items()} == expected

    for name, quant in found.items():
        assert np.all(quant["zero_point"] == 0)
        assert quant["rounding_mode"] == b"ROUND"
        assert quant["narrow"] == name.endswith("weight_quant")
        if scale is Scale.PO2:
            assert np.all(np.frexp(quant["scale"])[0] == 0.5)
        if name.endswith("act_quant"):
            assert quant["scale"].shape == ()
            continue
        codes = np.round(quant["value"].astype(np.float64) / quant["scale"])
        limit = 2 ** (int(quant["bits"]) - 1)
        assert -limit <= codes.min()
        assert codes.max() < limit
        # Constants lie on their grid, so no tool can round them to another code.
        assert np.array_equal((codes * quant["scale"]).astype(np.float32), quant["value"])

    scales = {INPUT: found["input.act_quant"]["scale"]}
    for layer, row in zip(recipe.layers, recipe.summary(), strict=True):
        scales[row.name] = scales[recipe.sources(layer)[0]]
        if row.act is not None:
            scales[row.name] = found[f"{row.name}_act.act_quant"]["scale"]
        if row.weight is None:
            continue
        weight = found[f"{row.name}.weight_quant"]
        per_channel = granularity is Granularity.CHANNEL
        assert weight["scale"].size == (len(weight["value"]) if per_channel else 1)
        bias_scale = found[f"{row.name}.bias_quant"]["scale"]
        input_scale = scales[recipe.sources(layer)[0]]
        assert np.array_equal(bias_scale, weight["scale"].reshape(-1) * input_scale)


def test_reference_is_in_float64_behind_codes_rounded_in_float32(tmp_path: Path) -> None:
    recipe = variant(MLP, Scale.FLOAT, Granularity.CHANNEL)
    network = trained_a_little(recipe)
    path = export(network, recipe, digits_of(recipe), tmp_path)
    quants, reference = quantizers(path), np.load(tmp_path / REFERENCE)

    def codes(name: str) -> np.ndarray:  # type: ignore[type-arg]
        return np.round(quants[name]["value"].astype(np.float64) / quants[name]["scale"])

    # By hand, from nothing but the file: integers between float64 requantizations.
    scale = quants["input.act_quant"]["scale"]
    signal = np.clip(np.round(reference["x"] / scale), 0, 255).astype(np.int64)
    fixed = frozen(network, torch.zeros(1, 64))
    assert np.array_equal(signal, input_codes(fixed, torch.from_numpy(reference["x"]))[0].numpy())
    real = np.float64(scale)
    for layer in ("fc1", "fc2"):
        weight_scale = quants[f"{layer}.weight_quant"]["scale"].reshape(-1).astype(np.float64)
        total = signal @ codes(f"{layer}.weight_quant").T + codes(f"{layer}.bias_quant")
        y = total * (real * weight_scale)
        if layer == "fc1":
            real = np.float64(quants["fc1_act.act_quant"]["scale"])
            top = 2 ** int(quants["fc1_act.act_quant"]["bits"]) - 1
            signal = np.clip(np.round(y / real), 0, top)
    assert np.allclose(y, reference["y"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", Scale)
@pytest.mark.parametrize("granularity", Granularity)
def test_channels_of_zeros_get_a_usable_scale(
    scale: Scale, granularity: Granularity, tmp_path: Path
) -> None:
    recipe = variant(MLP, scale, granularity)
    twin = float_network(recipe)
    with torch.no_grad():
        twin.get_submodule("fc1").weight[3] = 0
        twin.get_submodule("fc2").weight.zero_()
    network = quantized_network(recipe, twin, torch.rand(32, 64))
    assert torch.isfinite(network(torch.rand(4, 64))).all()
    for quant in quantizers(export(network, recipe, digits_of(recipe), tmp_path)).values():
        assert np.isfinite(quant["scale"]).all()
        assert (quant["scale"] > 0).all()


def test_distortion_is_drawn_from_the_generator_and_moves_pixels_a_little() -> None:
    x = torch.rand(16, 64)
    shape = (1, 8, 8)
    draw = [distorted(x, shape, 0.5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    assert draw[0].min() >= 0
    assert draw[0].max() <= 1
    assert torch.allclose(distorted(x, shape, 0.0, torch.Generator()), x, atol=1e-5)


@pytest.mark.parametrize(("name", "least"), [("digits_mlp", 0.96), ("digits_cnn", 0.97)])
def test_shipped_models_reach_their_accuracy(name: str, least: float, tmp_path: Path) -> None:
    result = train(MODELS[name](), tmp_path)
    assert result.accuracy >= least
    assert result.accuracy >= result.float_accuracy - 0.015
