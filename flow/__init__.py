"""bitwright: neural networks to edge hardware, proven to compute the trained network's integers.

The import packages are the folders `flow`, `targets` and `models`. Their names are common, so
importing `flow` first makes sure that the two others are the ones beside it.
"""

from importlib.util import find_spec
from pathlib import Path

__version__ = "0.1.0"


def _refuse_shadowed(name: str) -> None:
    expected = Path(__file__).resolve().parent.parent / name
    spec = find_spec(name)
    found = Path(spec.origin).resolve().parent if spec and spec.origin else None
    if found != expected:
        raise ImportError(
            f"another package named '{name}' hides bitwright's: found {found}, "
            f"expected {expected}. Run the `bitwright` command from another folder, or rename "
            f"the other package."
        )


for _name in ("targets", "models"):
    _refuse_shadowed(_name)
