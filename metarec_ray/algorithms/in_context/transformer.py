"""A causal transformer over the support.

Knows how states follow from tokens; `SequenceReader` makes the tokens, the losses and the head.
"""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn.functional import dropout, gelu, layer_norm

from metarec_ray.algorithms.base import Problem
from metarec_ray.algorithms.in_context.shared import SequenceReader, Share, weights, zeros
from metarec_ray.core.batch import Params
from metarec_ray.core.parameters import Declared, Parameter
from metarec_ray.errors import ConfigError


class CausalTransformer(SequenceReader):
    """Self-attention over the events so far, pre-norm [Vaswani et al., 2017, arXiv:1706.03762].

    A sequential recommender [Kang & McAuley, 2018, arXiv:1808.09781] trained as an in-context
    learner: its output after k events is the head's last layer for a user with these k events.

    Attributes:
        layers, heads: of self-attention; `model.dim` must be a multiple of `heads`.
        width: hidden units of each feed-forward network.
        attention_dropout: share of attention weights that are dropped in training.

    """

    name: Literal["transformer"] = "transformer"
    layers: PositiveInt = 1
    heads: PositiveInt = 4
    width: PositiveInt = 256
    attention_dropout: Share = 0.2

    def network(self, dim: int, generator: torch.Generator) -> Declared:
        if dim % self.heads:
            raise ConfigError(
                f"model.dim must be a multiple of heads, got {dim} and {self.heads} "
                "(algorithm.heads)"
            )
        made = {
            "context.position.item": weights((self.max_events + 1, dim), self.init_scale, generator)
        }
        for layer in range(self.layers):
            at = f"context.{layer}."
            made |= {
                at + "norm.scale": Parameter(torch.ones(2, dim)),
                at + "norm.shift": zeros(2, dim),
                at + "attend.weight": weights((dim, 3 * dim), dim**-0.5, generator),
                at + "attend.bias": zeros(3 * dim),
                at + "join.weight": weights((dim, dim), dim**-0.5, generator),
                at + "join.bias": zeros(dim),
                at + "up.weight": weights((dim, self.width), dim**-0.5, generator),
                at + "up.bias": zeros(self.width),
                at + "down.weight": weights((self.width, dim), self.width**-0.5, generator),
                at + "down.bias": zeros(dim),
            }
        return made

    def read(self, problem: Problem, meta: Params, tokens: Tensor) -> Tensor:
        training = problem.progress is not None
        states = tokens + meta["context.position.item"][: tokens.shape[-2]]
        for layer in range(self.layers):
            at = f"context.{layer}."
            own = {name.removeprefix(at): p for name, p in meta.items() if name.startswith(at)}
            states = states + self._attend(own, states, training)
            hidden = layer_norm(
                states, states.shape[-1:], own["norm.scale"][1], own["norm.shift"][1]
            )
            hidden = gelu(hidden @ own["up.weight"] + own["up.bias"])
            states = states + hidden @ own["down.weight"] + own["down.bias"]
        return states

    def _attend(self, own: Params, states: Tensor, training: bool) -> Tensor:
        n, dim = states.shape[-2:]
        hidden = layer_norm(states, (dim,), own["norm.scale"][0], own["norm.shift"][0])
        joint = hidden @ own["attend.weight"] + own["attend.bias"]
        parts = joint.unflatten(-1, (3, self.heads, dim // self.heads)).unbind(-3)
        query, key, value = (part.transpose(-3, -2) for part in parts)  # [*T, heads, n, width]
        logits = query @ key.mT / (dim // self.heads) ** 0.5
        # Padding comes last, so the causal mask covers it.
        later = torch.arange(n)[None, :] > torch.arange(n)[:, None]
        share = torch.softmax(logits.masked_fill(later, -torch.inf), -1)
        share = dropout(share, self.attention_dropout) if training else share
        found = (share @ value).transpose(-3, -2).flatten(-2)
        return found @ own["join.weight"] + own["join.bias"]
