"""Damaged files: they are read, or refused with an error meant for users; nothing else happens."""

from __future__ import annotations

import traceback
import warnings
from pathlib import Path

import numpy as np

from flow.errors import Unsupported, UsageError
from flow.importer import import_qonnx
from flow.interp import Interpreter
from flow.onnx_file import read
from tests.network.nets import qdq_net, random_net
from tests.network.wide import wide_net


def sources(folder: Path) -> list[bytes]:
    """Small valid networks: an image and a vector, branches, QDQ."""
    path = folder / "valid.onnx"
    made = [
        random_net(np.random.default_rng(seed), path, po2=False).read_bytes() for seed in (0, 3)
    ]
    made += [wide_net(np.random.default_rng(s), path, po2=True).read_bytes() for s in (4, 11, 19)]
    return [*made, qdq_net(path).read_bytes()]


def attempt(path: Path) -> str:
    """What became of the file: `read`, or the error's type and text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Interpreter(import_qonnx(read(path), "net").graph)
        return "read"
    except (UsageError, Unsupported) as error:
        assert str(error)
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {where.name}, {where.filename}:{where.lineno}: {error}"
