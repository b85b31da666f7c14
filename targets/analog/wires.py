"""What the resistance of wires leaves of a tile's conductances: an exact nodal solve."""

from __future__ import annotations

import numpy as np

from flow.ops import IntArray
from targets.analog.mapping import FloatArray

LARGEST = 128  # rows, and columns: a tile of that size has 32,768 nodes
SIEMENS = 1e-6  # of a microsiemens


def through_wires(conductances: FloatArray, wire_ohm: float) -> FloatArray:
    """Conductances (rows, columns) in microsiemens as they are seen from outside: the current out
    of each column, per volt at each row.

    Every crossing has a node on its row and one on its column, with the device between them;
    neighbours on a wire are `wire_ohm` apart, as are the first column from the row's driver and the
    last row from the column's converter, which holds its end at 0 V. The network is linear: what
    is seen of several rows is the sum of what is seen of each, so one matrix is all there is. Rows
    are driven from one end and columns read at one, through as much as lies between two devices.
    """
    if wire_ohm == 0:
        return conductances
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    rows, columns = conductances.shape
    wire = 1 / wire_ohm
    at = np.arange(rows * columns).reshape(rows, columns)
    on_row, on_column = at, at + at.size
    ends = [
        (on_row, on_column, conductances * SIEMENS),
        (on_row[:, :-1], on_row[:, 1:], np.full((rows, columns - 1), wire)),
        (on_column[:-1], on_column[1:], np.full((rows - 1, columns), wire)),
    ]
    total = np.zeros(2 * at.size)
    first, second, values = [], [], []
    for one, other, value in ends:
        each = value.ravel()
        for here, there in ((one.ravel(), other.ravel()), (other.ravel(), one.ravel())):
            np.add.at(total, here, each)
            first.append(here)
            second.append(there)
            values.append(-each)
    total[on_row[:, 0]] += wire
    total[on_column[-1]] += wire
    diagonal = np.arange(total.size)
    matrix = csc_matrix(
        (
            np.concatenate([*values, total]),
            (np.concatenate([*first, diagonal]), np.concatenate([*second, diagonal])),
        ),
        shape=(total.size, total.size),
    )
    # The matrix is symmetric: what a current into a column's end makes of the rows' first nodes is
    # what a current into those makes of the end.
    given = np.zeros((total.size, columns))
    given[on_column[-1], np.arange(columns)] = 1
    solved = splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(given)
    seen: FloatArray = solved[on_row[:, 0]] * wire**2 / SIEMENS
    return seen


def interleaved(count: int, pairs: bool) -> IntArray:
    """The order in which a tile's columns lie side by side: the two of a pair together."""
    order = np.arange(count)
    return order.reshape(2, -1).T.ravel() if pairs else order
