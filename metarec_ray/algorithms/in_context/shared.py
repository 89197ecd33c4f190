"""What in-context learners share: events as tokens, losses over prefixes, dropout.

Knows flat parameters named `context.*`; does not know which network reads the tokens.

Axes: T tasks, or none, N events of a support set, K = N + 1 prefixes (0 to N events), D dimensions
of an encoded vector, P inputs of the head's last layer.
"""

from abc import abstractmethod
from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.func import vmap
from torch.nn.functional import dropout, layer_norm

from metarec_ray.algorithms.base import MetaLearner, Problem, QueryLoss
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.losses import repeats
from metarec_ray.core.parameters import Declared, Parameter
from metarec_ray.models.head import dimensions

GAPS = (1.0, 10.0, 30.0, 120.0, 3600.0)  # seconds since the previous event: edges of buckets
SECOND = 1_000_000
Share = Annotated[float, Field(ge=0, lt=1)]


def normal(shape: tuple[int, ...], scale: float, generator: torch.Generator) -> Tensor:
    """Return initial values ~ N(0, scale^2)."""
    return torch.randn(shape, generator=generator) * scale


def weights(shape: tuple[int, ...], scale: float, generator: torch.Generator) -> Parameter:
    """Return fresh weights ~ N(0, scale^2), which decay."""
    return Parameter(normal(shape, scale, generator), decays=True)


def zeros(*shape: int) -> Parameter:
    """Return what begins at zero and does not decay."""
    return Parameter(torch.zeros(shape))


def surprise(problem: Problem, events: Encoded) -> Tensor:
    """Return each label minus what the item's offset predicts [*T, N]; 0 for positives."""
    if problem.feedback == "implicit":
        return torch.zeros_like(events.label)
    binary = problem.feedback == "binary"
    expected = torch.sigmoid(events.offset) if binary else events.offset
    return (events.label - expected) * events.mask


def gap_vectors(table: Tensor, time: Tensor) -> Tensor:
    """Return the row of `table` [6, D] for each event's time since the previous one [*T, N, D].

    For the first event that is 0 seconds, and without a clock for every event.
    """
    seconds = torch.diff(time, prepend=time[..., :1]) / SECOND
    bucket = (seconds.unsqueeze(-1) >= torch.tensor(GAPS)).sum(-1, keepdim=True)
    return (bucket == torch.arange(len(GAPS) + 1)).to(table.dtype) @ table


def keep(share_dropped: float, like: Tensor) -> Tensor:
    """Return 1 for each row of `like` [*T, N, D], 0 with probability `share_dropped` [*T, N, 1]."""
    return (torch.rand_like(like[..., :1]) >= share_dropped).to(like.dtype)


class SequenceReader(MetaLearner):
    """A network that reads the user, then the support in order, and outputs the head's last layer.

    One pass gives the head for every support size: the state after k events has seen only these.
    Training predicts the query set after several prefixes of the support, and each next event.

    Attributes:
        prefixes: support sizes after which the query is predicted in training, besides the whole
            support.
        max_events: number of newest events that are read; no more than training windows have.
        next_weight: weight of the loss of predicting each support event from those before it.
        embedding_dropout, item_dropout, user_dropout: in training, shares of token entries, of
            whole items and of whole users that are dropped.
        init_scale: standard deviation of initial embeddings.

    """

    batched: ClassVar[bool] = True
    prefixes: tuple[NonNegativeInt, ...] = (0, 1, 3, 5, 10)
    max_events: PositiveInt = 10
    next_weight: NonNegativeFloat = 1.0
    embedding_dropout: Share = 0.3
    item_dropout: Share = 0.3
    user_dropout: Share = 0.1
    init_scale: PositiveFloat = 0.02

    @abstractmethod
    def read(self, problem: Problem, meta: Params, tokens: Tensor) -> Tensor:
        """Return the states [*T, K, D] after each token [*T, K, D], independent of later tokens."""

    @abstractmethod
    def network(self, dim: int, generator: torch.Generator) -> Declared:
        """Return the initial parameters of `read`."""

    def init(self, params: Params, generator: torch.Generator) -> Declared:
        dim, width = dimensions(params), params["head.out.weight"].shape[0]
        made = {
            "context.start": Parameter(normal((2, dim), self.init_scale, generator)),
            "context.gap.item": weights((len(GAPS) + 1, dim), self.init_scale, generator),
            "context.label": Parameter(
                torch.cat([torch.ones(1, dim), normal((1, dim), self.init_scale, generator)])
            ),
        }
        for head in ("query", "next"):
            made |= {
                f"context.{head}.weight": weights((dim, width), dim**-0.5, generator),
                f"context.{head}.bias": zeros(dim),
                f"context.{head}.offset": zeros(dim),
            }
        return made | self.network(dim, generator)

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        support, states = self._read(problem, meta, support)
        return meta | _last_layer(meta, "query", _after_all(states, support))

    def objective(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[Tensor, Tensor]:
        support, states = self._read(problem, meta, support)
        held = support.mask.sum(-1)
        sizes = [k for k in self.prefixes if k < support.mask.shape[-1]]
        read = [(states[..., k, :], k < held) for k in sizes]
        values, counted = [], []
        for state, counts in [*read, (_after_all(states, support), torch.ones_like(held))]:
            fast = meta | _last_layer(meta, "query", state)
            values.append(loss(lambda events, fast=fast: self.score(problem, meta, fast, events)))
            counted.append(counts.to(states.dtype))
        weight = torch.stack(counted)
        value = (torch.stack(values) * weight).sum(0) / weight.sum(0)
        # Reported is the loss after the whole support, as for learners without prefixes.
        whole = values[-1].detach()
        if not self.next_weight:
            return value, whole
        ahead = self.next_weight * self._next_event_loss(problem, meta, states, support)
        return value + ahead, whole

    def _next_event_loss(
        self, problem: Problem, meta: Params, states: Tensor, support: Encoded
    ) -> Tensor:
        """Return the mean loss of the support's events, each under the state before it.

        As in a query, items of earlier events cannot be chosen: repeats are left out of the mean.
        """
        support, choosable = _first_meetings(problem, support)

        def one(state: Tensor, at: Tensor, some: Tensor | None) -> Tensor:
            params = meta | _last_layer(meta, "next", state)
            return problem.support_loss(params, support.at(at.expand(*tasks, 1)), some)

        tasks, events = support.mask.shape[:-1], support.mask.shape[-1]
        axes = (-2, 0, None if choosable is None else 0)
        losses = vmap(one, in_dims=axes)(states[..., :-1, :], torch.arange(events), choosable)
        return losses.sum(0) / support.mask.sum(-1).clamp(min=1)

    def _read(self, problem: Problem, meta: Params, support: Encoded) -> tuple[Encoded, Tensor]:
        """Return the events that are read, and the states [*T, K, D] after the user and each."""
        # Without its oldest events, a support does not begin the history any more.
        begins = problem.begins & (support.mask.sum(-1) <= self.max_events)
        support = support.newest(self.max_events)
        training = problem.progress is not None
        user, item = support.user.unsqueeze(-2), support.item + support.context
        if training:
            user = user * keep(self.user_dropout, user)
            item = item * keep(self.item_dropout, item)
        signal = surprise(problem, support).unsqueeze(-1)
        scale, shift = meta["context.label"]
        events = item * (1 + signal * scale) + signal * shift
        events = events + gap_vectors(meta["context.gap.item"], support.time)
        start = meta["context.start"][begins.long().unsqueeze(-1)]
        tokens = torch.cat([start + user, events], -2)
        if training:
            tokens = dropout(tokens, self.embedding_dropout)
        return support, normed(self.read(problem, meta, tokens))


def normed(states: Tensor) -> Tensor:
    """Return the states, each normalised to mean 0 and variance 1."""
    return layer_norm(states, states.shape[-1:])


def _first_meetings(problem: Problem, support: Encoded) -> tuple[Encoded, Tensor | None]:
    """Return the support without events on items of earlier ones, and what each could choose from.

    That is bool [N, *T, 1, R] of the reference items; None, and all events, where labels are
    learned and nothing is chosen.
    """
    if problem.reference is None:
        return support, None
    met = support.index.unsqueeze(-1) == problem.reference.index.unsqueeze(-2)
    met = (met & support.mask.unsqueeze(-1)).long()
    earlier = met.cumsum(-2) - met > 0
    first = support.mask & ~repeats(support.index, support.mask)
    return support._replace(mask=first), ~earlier.movedim(-2, 0).unsqueeze(-2)


def _after_all(states: Tensor, support: Encoded) -> Tensor:
    """Return the states [*T, D] after the last event of each support."""
    last = support.mask.sum(-1)[..., None, None]
    return states.gather(-2, last.expand(*last.shape[:-1], states.shape[-1])).squeeze(-2)


def _last_layer(meta: Params, name: str, state: Tensor) -> Params:
    """Return the head's last layer for a state [*T, D]."""
    out = f"context.{name}."
    return {
        "head.out.weight": meta["head.out.weight"] + state @ meta[out + "weight"],
        "head.out.bias": meta["head.out.bias"] + state @ meta[out + "bias"],
        "offset.scale": meta["offset.scale"] + state @ meta[out + "offset"],
    }
