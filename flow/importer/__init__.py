"""QONNX to the integer graph.

The file's float computation is followed symbolically. Every activation is an integer value of the
graph and a pending exact meaning, real = clip(a*code + b); linear float operations only change a, b
and the clip, and the next Quant turns all of it into one Requant. What the file does before its
first Quant and after the last integer operation is for the host (`Imported.head`, `Imported.tail`).
"""

from flow.importer.lowering import Lowering
from flow.importer.meaning import HostFunction, HostInput, HostOutput, Imported
from flow.importer.operations import OPERATIONS
from flow.importer.tensors import Quantizer
from flow.onnx_file import OnnxFile

__all__ = [
    "OPERATIONS",
    "HostFunction",
    "HostInput",
    "HostOutput",
    "Imported",
    "Quantizer",
    "import_qonnx",
]


def import_qonnx(file: OnnxFile, name: str, given: Quantizer | None = None) -> Imported:
    """Lower the file to an integer graph called `name`.

    Args:
        given: how the input is quantized, for a file that does not say.

    Raises:
        UsageError: the file holds impossible numbers or shapes.
        Unsupported: the network does what cannot be lowered; every offending node is listed.
    """
    return Lowering(file, name, OPERATIONS, given).run()
