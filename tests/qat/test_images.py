"""CIFAR-10's binary batches and folders of pictures: read, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flow.errors import ToolMissing, UsageError
from flow.qat import data, images

CIFAR, PEOPLE = (3, 32, 32), (3, 96, 96)


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set is on this machine."""
    monkeypatch.setenv("BITWRIGHT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_cifar(folder: Path, count: int = 20) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Batches of random images in CIFAR-10's own form; (labels, images) by name."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    made = {}
    for name in (*images.TRAIN_BATCHES, images.TEST_BATCH):
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        pixels = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        body = b"".join(bytes([y]) + x.tobytes() for y, x in zip(labels, pixels, strict=True))
        (folder / name).write_bytes(body)
        made[name] = (labels, pixels)
    return made


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_cifar_is_read_in_the_order_of_its_batches(tmp_path: Path, inner: str) -> None:
    made = write_cifar(tmp_path / "data" / "cifar10" / inner)
    split = data.load("cifar10", CIFAR)
    assert split.train_x.shape == (100, *CIFAR)
    assert split.image_shape == CIFAR
    labels, pixels = made["data_batch_2.bin"]
    assert split.train_y[20:40].tolist() == labels.tolist()
    assert np.array_equal(split.train_x[20:40], pixels / np.float32(255))
    assert np.array_equal(split.test_x, made["test_batch.bin"][1] / np.float32(255))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\1" * 3072, "whole records of 3073"),
        (b"", "whole records"),
        (b"\x0a" * 3073, "labels must be from 0 to 9, not 10"),
    ],
)
def test_other_batches_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    write_cifar(tmp_path / "c")
    (tmp_path / "c" / "data_batch_4.bin").write_bytes(content)
    with pytest.raises(UsageError, match=rf"data_batch_4.*{says}"):
        data.load("cifar10", CIFAR, tmp_path / "c")


def test_a_batch_that_is_missing_is_named(tmp_path: Path) -> None:
    write_cifar(tmp_path / "c")
    (tmp_path / "c" / "data_batch_3.bin").unlink()
    with pytest.raises(UsageError, match=r"data_batch_3\.bin"):
        data.load("cifar10", CIFAR, tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "shape", "how"), [("cifar10", CIFAR, "binary version"), ("vww", PEOPLE, "vw_coco2014")]
)
def test_images_that_are_not_there_say_how_to_get_them(
    name: str, shape: tuple[int, ...], how: str
) -> None:
    with pytest.raises(UsageError, match=rf"(?s){name} is not here.*{how}.*DATA=.*untrained=true"):
        data.load(name, shape)


def write_pictures(folder: Path, count: int = 12) -> Path:
    """One colour a class, in two sizes and formats; green rises with the number."""
    for name, red in (("non_person", 10), ("person", 240)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            size, suffix = ((96, 96), "png") if number % 2 else ((120, 80), "bmp")
            image = Image.new("RGB", size, (red, number * 10, 0))
            image.save(folder / name / f"{number:03d}.{suffix}")
    return folder


def test_pictures_are_read_with_their_folder_as_class(tmp_path: Path) -> None:
    split = data.load("vww", PEOPLE, write_pictures(tmp_path / "vww"))
    assert (split.train_x.shape, split.test_x.shape) == ((20, *PEOPLE), (4, *PEOPLE))
    for x, y in ((split.train_x, split.train_y), (split.test_x, split.test_y)):
        assert np.array_equal(
            x[:, 0],
            np.broadcast_to(
                np.where(y == 1, np.float32(240) / 255, np.float32(10) / 255)[:, None, None],
                (len(x), 96, 96),
            ).astype(np.float32),
        )
    assert np.allclose(split.test_x[:, 1, 5, 5] * 255, [0, 100, 0, 100])  # every tenth


def test_damaged_pictures_and_few_are_refused(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "vww")
    path = folder / "person" / "003.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UsageError, match=r"003\.png is no picture"):
        data.load("vww", PEOPLE, folder)
    path.write_text("hello")
    with pytest.raises(UsageError, match=r"003\.png is no picture"):
        data.load("vww", PEOPLE, folder)
    with pytest.raises(UsageError, match=r"10 pictures .* not 9, 9"):
        data.load("vww", PEOPLE, write_pictures(tmp_path / "few", 9))


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_MAX_PIXELS", 96 * 96)
    with pytest.raises(UsageError, match=r"000\.bmp: more than 9216 pixels"):
        data.load("vww", PEOPLE, write_pictures(tmp_path / "vww"))


def test_without_pillow_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flow.packages.version", lambda name: None)
    with pytest.raises(ToolMissing, match=r"pillow.*bitwright\[images\]"):
        data.load("vww", PEOPLE, write_pictures(tmp_path / "vww"))


def test_arrays_stand_for_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 6), ("test", 4)):
        arrays[part] = rng.random((count, *PEOPLE), dtype=np.float32)
        np.savez(tmp_path / f"{part}.npz", x=arrays[part], y=np.arange(count) % 2)
    split = data.load("vww", PEOPLE, tmp_path)
    assert np.array_equal(split.train_x, arrays["train"])
    assert split.test_y.tolist() == [0, 1, 0, 1]
    np.savez(tmp_path / "test.npz", x=arrays["test"], y=np.arange(4))
    with pytest.raises(UsageError, match="labels must be 0 or 1"):
        data.load("vww", PEOPLE, tmp_path)
