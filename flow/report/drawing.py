"""Where the layers of a network stand in its picture, and the lines between them."""

from __future__ import annotations

from dataclasses import dataclass

from flow.report.layers import Layer

WIDTH, HEIGHT = 190, 38  # of a box, in pixels
GAP_X, GAP_Y = 26, 22
_BULGE = 18  # how far a line that passes layers by stands off, for each of them


@dataclass(frozen=True)
class Box:
    """A layer, or the input (number -1); `x`, `y` is its upper left corner."""

    number: int
    title: str
    subtitle: str
    x: int
    y: int


@dataclass(frozen=True)
class Drawing:
    """Boxes and the paths between them (SVG's own notation), in a picture of this size."""

    boxes: tuple[Box, ...]
    paths: tuple[str, ...]
    width: int
    height: int


def draw(layers: tuple[Layer, ...], input_text: str) -> Drawing:
    """Layers from top to bottom, each below all that it reads, side by side where they can be."""
    numbers = {layer.name: index for index, layer in enumerate(layers)}
    sources = [[numbers.get(name, -1) for name in layer.inputs] for layer in layers]
    ranks = {-1: 0}
    for number, from_ in enumerate(sources):
        # Only what stands before: a file that others made may say anything.
        ranks[number] = 1 + max((ranks[source] for source in from_ if source < number), default=0)
    rows: dict[int, list[int]] = {}
    for number, rank in ranks.items():
        rows.setdefault(rank, []).append(number)
    widest = max(len(row) for row in rows.values())
    inner = widest * WIDTH + (widest - 1) * GAP_X
    boxes: dict[int, Box] = {}
    for rank, row in rows.items():
        left = (inner - len(row) * WIDTH - (len(row) - 1) * GAP_X) // 2
        for place, number in enumerate(row):
            x, y = left + place * (WIDTH + GAP_X) + 1, rank * (HEIGHT + GAP_Y) + 1
            boxes[number] = _box(layers, number, input_text, x, y)
    paths, reach = [], inner
    for number, from_ in enumerate(sources):
        for source in dict.fromkeys(source for source in from_ if source < number):
            passed = ranks[number] - ranks[source] - 1
            side = min(_BULGE * passed + GAP_X, 4 * GAP_X) if passed else 0
            reach = max(reach, boxes[source].x + WIDTH + side, boxes[number].x + WIDTH + side)
            paths.append(_path(boxes[source], boxes[number], side))
    depth = max(rows) + 1
    return Drawing(
        tuple(boxes.values()),
        tuple(paths),
        reach + 2,
        depth * HEIGHT + (depth - 1) * GAP_Y + 2,
    )


def _box(layers: tuple[Layer, ...], number: int, input_text: str, x: int, y: int) -> Box:
    if number < 0:
        return Box(number, "input", input_text, x, y)
    layer = layers[number]
    bits = f", {layer.weights.bits}-bit weights" if layer.weights else ""
    return Box(number, layer.name, f"{layer.op} {shape_text(layer.shape)} {layer.type}{bits}", x, y)


def shape_text(shape: tuple[int, ...]) -> str:
    """`8x4x4`."""
    return "x".join(map(str, shape))


def _path(above: Box, below: Box, side: int) -> str:
    """From the bottom of one box to the top of the other; around what stands between them on the
    right, where there is something."""
    if not side:
        x1, y1 = above.x + WIDTH // 2, above.y + HEIGHT
        x2, y2 = below.x + WIDTH // 2, below.y
        middle = (y1 + y2) // 2
        return f"M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}"
    x1, y1 = above.x + WIDTH, above.y + HEIGHT // 2
    x2, y2 = below.x + WIDTH, below.y + HEIGHT // 2
    far = max(x1, x2) + side
    down = f"C{far} {y1} {far} {y1} {far} {y1 + GAP_Y}V{y2 - GAP_Y}"
    return f"M{x1} {y1}{down}C{far} {y2} {far} {y2} {x2} {y2}"
