"""The plotting library that goes into every page: Vega-Lite, as one JavaScript text.

It is taken from the package vl-convert-python, which holds Vega, Vega-Lite and Vega-Embed and puts
them together without the network. That takes seconds, so the text is kept in the user's cache:
`python -m flow.report.bundle` fills it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from functools import cache
from pathlib import Path

from flow import packages
from flow.artifact import user_cache
from flow.errors import ToolFailed

PACKAGE = "vl-convert-python"
_SNIPPET = "window.vegaEmbed=vegaEmbed;"  # what the bundle does with the library
_END = "window.vegaEmbed="  # near the end of a whole bundle
_ENDS_SCRIPT = ("</script", "<!--")  # what would end or change the page's script element


@cache
def bundle() -> str:
    """JavaScript that defines `vegaEmbed`. Raises ToolMissing, ToolFailed."""
    packages.require(PACKAGE)
    path = user_cache() / f"vega-{packages.version(PACKAGE)}.js"
    with contextlib.suppress(OSError, ValueError):
        return _checked(path.read_text(encoding="utf-8"))
    import vl_convert

    try:
        text = _checked(vl_convert.javascript_bundle(_SNIPPET))
    except ValueError as error:
        raise ToolFailed(
            f"the package {PACKAGE} gives no bundle that can be used: {error}"
        ) from error
    with contextlib.suppress(OSError):  # then it is made again next time
        _keep(path, text)
    return text


def _checked(text: str) -> str:
    if _END not in text[-200:]:
        raise ValueError("it is cut short")
    if any(mark in text.lower() for mark in _ENDS_SCRIPT):
        raise ValueError("it cannot stand inside a page")
    return text


def _keep(path: Path, text: str) -> None:
    """Several compiles may do so at once: each writes a file of its own, the last one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    bundle()
