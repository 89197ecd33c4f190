"""A gated recurrent network over the support.

Knows how states follow from tokens; `SequenceReader` makes the tokens, the losses and the head.
"""

from typing import Literal

import torch
from torch import Tensor

from metarec_ray.algorithms.base import Problem
from metarec_ray.algorithms.in_context.shared import SequenceReader, weights, zeros
from metarec_ray.core.batch import Params
from metarec_ray.core.parameters import Declared


class Recurrent(SequenceReader):
    """Gated recurrent units, one step for each event [Hidasi et al., 2016, arXiv:1511.06939]."""

    name: Literal["recurrent"] = "recurrent"

    def network(self, dim: int, generator: torch.Generator) -> Declared:
        return {
            "context.token.weight": weights((dim, 3 * dim), dim**-0.5, generator),
            "context.token.bias": zeros(3 * dim),
            "context.state.weight": weights((dim, 3 * dim), dim**-0.5, generator),
            "context.state.bias": zeros(dim),
        }

    def read(self, problem: Problem, meta: Params, tokens: Tensor) -> Tensor:
        state, states = torch.zeros_like(tokens[..., 0, :]), []
        given = tokens @ meta["context.token.weight"] + meta["context.token.bias"]
        for step in given.unbind(-2):
            reset_in, update_in, fresh_in = step.chunk(3, -1)
            reset_by, update_by, fresh_by = (state @ meta["context.state.weight"]).chunk(3, -1)
            reset, update = torch.sigmoid(reset_in + reset_by), torch.sigmoid(update_in + update_by)
            fresh = torch.tanh(fresh_in + reset * (fresh_by + meta["context.state.bias"]))
            state = fresh + update * (state - fresh)
            states.append(state)
        return torch.stack(states, -2)
