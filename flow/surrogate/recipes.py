"""The outline of a recipe: a network's steps before there is any weight."""

from __future__ import annotations

from math import prod

from flow.outline import INPUT, Outline, Role, Step
from flow.qat.formats import Activation, Format, Scale
from flow.qat.recipe import (
    Add,
    Conv,
    Dense,
    Depthwise,
    Flatten,
    GlobalPool,
    Layer,
    MaxPool,
    Recipe,
    Weighted,
    taps,
)

_ROLES: dict[type, Role] = {
    Dense: Role.DENSE,
    Conv: Role.CONV,
    Depthwise: Role.DEPTHWISE,
    Add: Role.ADD,
    MaxPool: Role.MAX_POOL,
    GlobalPool: Role.SUM_POOL,
    Flatten: Role.VIEW,
}


def recipe_outline(recipe: Recipe) -> Outline:
    """Of every layer a step, and one named `layer:act` where its outputs are quantized. Sums have
    the bits that the widest codes need; a trained network's need those or fewer."""
    shapes, bits, ends = {INPUT: recipe.input_shape}, {INPUT: recipe.input_bits}, {INPUT: INPUT}
    steps: list[Step] = []
    for layer, row in zip(recipe.layers, recipe.summary(), strict=True):
        sources = recipe.sources(layer)
        given = max(bits[source] for source in sources)
        taken = _taken(layer, shapes[sources[0]], len(sources))
        role = _ROLES.get(type(layer), Role.UNKNOWN)
        step = Step(
            layer.name,
            role,
            tuple(ends[source] for source in sources),
            taken,
            row.output_shape[0],
            prod(row.output_shape[1:]),
            given,
            _sum_bits(role, taken, given, row.weight),
            row.weight,
            window=taps(layer) if isinstance(layer, Weighted) else 1,
        )
        steps.append(step)
        ends[layer.name], shapes[layer.name] = layer.name, row.output_shape
        bits[layer.name] = step.made_bits
        if row.act is not None:
            steps.append(_quantized(step, row.act, recipe))
            ends[layer.name], bits[layer.name] = steps[-1].name, row.act
    return Outline(recipe.name, prod(recipe.input_shape), recipe.input_bits, tuple(steps))


def _quantized(step: Step, bits: int, recipe: Recipe) -> Step:
    table = recipe.activation is not Activation.RELU
    return Step(
        f"{step.name}:act",
        Role.TABLE if table else Role.REQUANT,
        (step.name,),
        1,
        step.channels,
        step.positions,
        step.made_bits,
        bits,
        scaled=not table and not _shifts(recipe),
    )


def _shifts(recipe: Recipe) -> bool:
    """Whether all scales will be powers of two, whatever training finds."""
    formats = {recipe.input_format}
    formats |= {recipe.format(each.name, "weight_format") for each in recipe.layers}
    formats |= {recipe.format(each.name, "act_format") for each in recipe.layers}
    return recipe.scale is Scale.PO2 and formats <= {Format.INTEGER, Format.FIXED}


def _taken(layer: Layer, shape: tuple[int, ...], operands: int) -> int:
    if isinstance(layer, Dense):
        return shape[0]
    if isinstance(layer, Conv):
        return shape[0] * taps(layer)
    if isinstance(layer, Depthwise):
        return taps(layer)
    if isinstance(layer, MaxPool):
        return layer.kernel**2
    if isinstance(layer, GlobalPool):
        return prod(shape[1:])
    return operands


def _sum_bits(role: Role, taken: int, given: int, weight: int | None) -> int:
    """Bits of `taken` products, or values, added up: those of one, and of their number."""
    more = (taken - 1).bit_length()
    if weight is not None:
        return given + weight + more
    return given + more if role in (Role.ADD, Role.SUM_POOL) else given
