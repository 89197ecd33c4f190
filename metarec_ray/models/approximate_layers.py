"""Approximate hidden layers over a whole catalogue: few passes and, if wanted, low precision.

Knows layers of relu(x @ weight + bias) and how numbers are rounded; does not know users, or what
the outputs are added to.

Units of a layer are held as step x value + shift. Of relu(z + c) the shift is relu(c), which joins
the next layer's bias, and the value max(z - relu(-c), -relu(c)): no larger than z is, so that no
digit is lost to a large bias. Axes: R items, H inputs of a layer, G outputs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.quantization import LARGEST, int_mm, quantize
from metarec_ray.models.head import Layer

CHUNK_BYTES = 2**20  # of a layer's units in 16 bits: about a core's own cache; measured
WIDEST = 2**30  # of what 32-bit products are compared with


class Units(NamedTuple):
    """What is prepared for all items: step x value + centre, inputs of a layer or its products."""

    value: Tensor  # int8 or float32 [R, H]
    step: Tensor  # float32 [H]
    centre: Tensor  # float32 [H]


class _Stage(NamedTuple):
    """Products of values, plus `bias`, at least `least`."""

    weight: Tensor  # [H, G]
    bias: Tensor  # [G]
    least: Tensor  # [G]


class _Plan(NamedTuple):
    """What is done to every item's values, and the step of the last products."""

    least: Tensor | None  # [H], before the first product
    stages: list[_Stage]
    last: Tensor  # [H, 1]
    step: Tensor  # [1]


def units(products: Tensor, *, low: bool) -> Units:
    """Return float32 [R, H] as units; in low precision in 8-bit integers."""
    if not low:
        return Units(products, torch.ones(products.shape[1]), torch.zeros(products.shape[1]))
    # What all items share would take digits from what tells them apart.
    centre = products.mean(0)
    columns = quantize((products - centre).T)
    return Units(columns.value.T.contiguous(), columns.unit, centre)


def outputs(start: Units, layers: Sequence[Layer], *, bias: Tensor | None = None) -> Tensor:
    """Return the outputs [R] of layers, less a constant; the last has one output and no relu.

    Args:
        start: what the first layer reads; with `bias` [H], relu(start + bias) is.
        layers: at least one.
        bias: of the layer whose products `start` are, None where they are no layer's.

    """
    plan = _plan(start, layers, bias)
    found = torch.empty(len(start.value), 1)
    size = max(1, CHUNK_BYTES // (2 * len(start.step)))
    for first in range(0, len(found), size):
        rows = slice(first, first + size)
        value = start.value[rows]
        if plan.least is not None:
            value = torch.maximum(value, plan.least)
        for weight, bias, least in plan.stages:
            if value.dtype == torch.int8:
                value = int_mm(value, weight).add_(bias)
                value = torch.maximum(value, least, out=value).bfloat16()
            else:
                value = torch.addmm(bias, value, weight)
                torch.maximum(value, least, out=value)
        last = plan.last
        found[rows] = int_mm(value, last) if value.dtype == torch.int8 else value @ last
    return found[:, 0].mul_(plan.step)


def _plan(start: Units, layers: Sequence[Layer], bias: Tensor | None) -> _Plan:
    step, shift, kind = start.step, start.centre, start.value.dtype
    first = None
    if bias is not None:
        shift, first = _first_bend(shift + bias, step, kind)
    stages: list[_Stage] = []
    for weight, own in layers[:-1]:
        constant = own + shift @ weight
        factor, step, kind = _factor(step.unsqueeze(1) * weight, kind)
        shift = torch.relu(constant)
        bounds = torch.stack([constant.clamp(max=0), -shift]) / step
        if kind == torch.int32:
            bounds = bounds.clamp_(min=-WIDEST).round_()
        stages.append(_Stage(factor, *bounds.to(kind)))
        kind = torch.bfloat16 if kind == torch.int32 else kind
    last, unit, _ = _factor(step.unsqueeze(1) * layers[-1].weight, kind)
    return _Plan(first, stages, last, unit)


def _first_bend(shift: Tensor, step: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the shift of prepared values, and where their relu bends in steps, both [H]."""
    if kind != torch.int8:
        return shift, -shift / step
    # No value is above the largest: a unit that bends beyond it is dead, step x value + shift = 0.
    shift = torch.maximum(shift, -LARGEST * step)
    return shift, (-shift / step).round_().clamp_(min=-LARGEST).to(kind)


def _factor(weight: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor, torch.dtype]:
    """Return what values of a kind are multiplied by, and the products' step [G] and kind."""
    if kind != torch.int8:
        return weight.to(kind), torch.ones(weight.shape[1]), kind
    columns = quantize(weight.T)
    return columns.value.T, columns.unit, torch.int32
