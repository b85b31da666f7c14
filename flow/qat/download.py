"""Fetches MNIST into the user's cache: each file whole and with the known hash, or not at all."""

from __future__ import annotations

import hashlib
import logging
import urllib.error
import urllib.request
from pathlib import Path

from flow.artifact import replace_bytes
from flow.errors import UsageError

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist"
# md5 as published with the files: it tells damage, and the mirror is spoken to by https.
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
MAX_BYTES = 16 << 20
SECONDS = 20

_log = logging.getLogger(__name__)


def download_mnist(looked: tuple[Path, ...], mirror: str = MIRROR) -> Path:
    """The folder (the last of those `looked` in) with the four files, fetched from `mirror`.

    Raises:
        UsageError: a file cannot be fetched or is damaged; the message says where to put them.
    """
    *_, folder = looked
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, md5 in MNIST_FILES.items():
            _log.warning("fetching %s/%s into %s", mirror, name, folder)
            with urllib.request.urlopen(f"{mirror}/{name}", timeout=SECONDS) as answer:
                content = answer.read(MAX_BYTES)
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                raise UsageError(f"{mirror}/{name} is not the file it should be (its md5 differs)")
            replace_bytes(folder / name, content)
    except OSError as error:  # urllib's errors are OSErrors too
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise UsageError(
            f"the data set mnist is not here (looked in {', '.join(str(p) for p in looked)}) and "
            f"cannot be downloaded from {mirror} ({reason}). Put its four idx files in a folder "
            f"and give DATA=folder, or in $BITWRIGHT_DATA/mnist"
        ) from error
    return folder
