"""From support sets to scores, batched over tasks: one fitted learner, or a blend of several.

Knows a checkpoint's parameters and encodes its catalogue once; does not know ids, requests or
files. Adaptation is the same code that training ran.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.func import vmap

from metarec_ray.algorithms.base import FittedLearner, Learner, Params, Problem
from metarec_ray.algorithms.problem import (
    EncodedItems,
    Support,
    encode_candidates,
    encode_support,
    make_problem,
    no_problem,
    unencoded,
)
from metarec_ray.checkpoint import BUFFER
from metarec_ray.config import Experiment
from metarec_ray.core.batch import Features, plain
from metarec_ray.data.settings import Feedback
from metarec_ray.models.towers import TABLES, encode

MEMBER = "member."  # what the names of a blend's members' parameters begin with
WEIGHTS, SIZES = "blend.weights", "blend.ks"
CHUNK = 64  # tasks adapted side by side
EVENTS = 5  # columns of a task that have an entry an event


class Supports(NamedTuple):
    """Padded support sets of T tasks, real events first, oldest first."""

    item: Tensor  # int64 [T, N]: catalogue rows
    label: Tensor  # float [T, N]
    mask: Tensor  # bool [T, N]
    time: Tensor  # int64 [T, N]: microseconds, 0 without a clock
    context: Features  # [T, N]
    user: Features  # [T]
    now: Features  # [T, 1]: context in which candidates are scored


class Predictor(Protocol):
    """What turns supports into scores."""

    def scores(self, supports: Supports, *, items: Tensor | None = None) -> Tensor:
        """Return scores after adapting on each support set: of the whole catalogue, [T, I].

        With `items`, catalogue rows int64 [T, Q], only of each task's own.
        """
        ...

    def log_share(self, scores: Tensor) -> Tensor:
        """Return scores [T, I] as log-probabilities, up to a constant."""
        ...

    def adapted(self, supports: Supports) -> int:
        """Return how many numbers adapting to the first support computes, 0 for none."""
        ...


class _Single(ABC):
    """One learner: batches its mathematics of one task."""

    learner: Learner
    meta: Params
    items: EncodedItems

    @abstractmethod
    def _columns(self, supports: Supports) -> list[Tensor]:
        """Return [T, ...] item, label, mask, time and context of events, user, and the now."""

    @abstractmethod
    def _problem(self, user: Tensor, now: Tensor) -> Problem:
        """Return what an encoded user is asked, in an encoded context."""

    def log_share(self, scores: Tensor) -> Tensor:
        return self.learner.log_share(scores)

    @torch.no_grad()
    def scores(self, supports: Supports, *, items: Tensor | None = None) -> Tensor:
        def one(wanted: Tensor, *columns: Tensor) -> Tensor:
            problem, fast = self._adapt(*columns)
            candidates = self.items if items is None else self.items.at(wanted)
            *_, user, now = columns
            asked = encode_candidates(candidates, user, now)
            return self.learner.score(problem, self.meta, fast, asked)

        columns = self._columns(supports)
        wanted = supports.item if items is None else items
        if len(wanted) <= CHUNK:  # a request: nothing stands beside it
            return vmap(one)(wanted, *columns)
        # Side by side are supports of like length: short ones must not pay for the longest.
        lengths = _lengths(supports.mask)
        order = lengths.argsort(stable=True)
        found = []
        for part in order.split(CHUNK):
            longest = max(1, int(lengths[part].max()))
            of_events = [column[part, :longest] for column in columns[:EVENTS]]
            rest = [column[part] for column in columns[EVENTS:]]
            found.append(vmap(one)(wanted[part], *of_events, *rest))
        return torch.cat(found)[order.argsort()]

    @torch.no_grad()
    def adapted(self, supports: Supports) -> int:
        _, fast = self._adapt(*(column[0] for column in self._columns(supports)))
        new = (value for name, value in fast.items() if value is not self.meta.get(name))
        return sum(value.numel() for value in new)

    def _adapt(self, *columns: Tensor) -> tuple[Problem, Params]:
        item, label, mask, time, context, user, now = columns
        support = Support(self.items.at(item), context, label, mask, time)
        problem = self._problem(user, now)
        return problem, self.learner.adapt(problem, self.meta, encode_support(support, user))


class Fitted(_Single):
    """The predictor of a learner that was fitted on whole histories."""

    def __init__(
        self, learner: Learner, model: Params, feedback: Feedback, *, n_items: int, user_tokens: int
    ):
        """Take parameters by their names in a checkpoint."""
        self.learner, self.meta = learner, _parameters(model)
        self.problem, self.items = no_problem(feedback), unencoded(n_items)
        self.user_tokens = user_tokens

    def _problem(self, user: Tensor, now: Tensor) -> Problem:
        return self.problem

    def _columns(self, supports: Supports) -> list[Tensor]:
        users = plain(supports.user, self.user_tokens)
        nothing = torch.zeros(len(supports.item), 1, 0)
        return [
            supports.item,
            supports.label,
            supports.mask,
            supports.time,
            nothing,
            users,
            nothing,
        ]


class Trained(_Single):
    """The predictor of a meta-learner: the towers encode, the catalogue once."""

    def __init__(self, learner: Learner, model: Params, feedback: Feedback, *, items: Features):
        """Take parameters by their names in a checkpoint, and the catalogue's features."""
        self.learner = learner
        self.feedback: Feedback = feedback
        self.meta = {n: p for n, p in _parameters(model).items() if n not in TABLES}
        self.log_q = model[BUFFER + "reference.log_q"]
        rows = torch.arange(len(items.tokens))
        with torch.no_grad():
            vectors = encode(self.meta, "item", items, model.get("item.ids"))
        self.items = EncodedItems(rows, vectors, model[BUFFER + "offset"])
        self.reference = self.items.at(model[BUFFER + "reference.items"])

    def _problem(self, user: Tensor, now: Tensor) -> Problem:
        return make_problem(self.feedback, self.reference, self.log_q, user, now)

    def _columns(self, supports: Supports) -> list[Tensor]:
        has_context = supports.context.tokens.shape[-1] + supports.context.dense.shape[-1] > 0
        contexts = supports.context if has_context else supports.now
        return [
            supports.item,
            supports.label,
            supports.mask,
            supports.time,
            encode(self.meta, "context", contexts),
            encode(self.meta, "user", supports.user),
            encode(self.meta, "context", supports.now),
        ]


class Blend:
    """A weighted sum of predictors, with weights that depend on the size of the support.

    Implicit feedback adds log-shares of the whole catalogue, other kinds add scores as they are.
    """

    def __init__(
        self, members: Sequence[Predictor], weights: Tensor, ks: Tensor, feedback: Feedback
    ):
        """Take weights [K, M] for supports of at least ks [K] events; ks ascend from 0."""
        self.members, self.weights, self.ks = members, weights, ks
        self.feedback: Feedback = feedback

    def log_share(self, scores: Tensor) -> Tensor:
        return torch.log_softmax(scores, -1)

    @torch.no_grad()
    def scores(self, supports: Supports, *, items: Tensor | None = None) -> Tensor:
        parts = torch.stack(
            [member_scores(m, supports, self.feedback, items) for m in self.members]
        )
        row = (supports.mask.sum(1, keepdim=True) >= self.ks).sum(1) - 1
        return torch.einsum("tm,mti->ti", self.weights[row], parts)

    def adapted(self, supports: Supports) -> int:
        return sum(member.adapted(supports) for member in self.members)


def member_scores(
    member: Predictor, supports: Supports, feedback: Feedback, items: Tensor | None = None
) -> Tensor:
    """Return scores on the scale that a blend adds up."""
    if feedback != "implicit":
        return member.scores(supports, items=items)
    shares = member.log_share(member.scores(supports))
    return shares if items is None else shares.gather(1, items)


def _lengths(mask: Tensor) -> Tensor:
    """Return how far the real events of each support reach, int64 [T], from `mask` [T, N]."""
    places = mask * torch.arange(1, mask.shape[1] + 1)
    return torch.nn.functional.pad(places, (0, 1)).amax(1)


def _parameters(model: Params) -> Params:
    return {name: value for name, value in model.items() if not name.startswith(BUFFER)}


def predictor_of(
    experiment: Experiment, model: Params, feedback: Feedback, items: Features, *, user_tokens: int
) -> Predictor:
    """Return what scores for a checkpoint of `experiment` with these parameters.

    Args:
        experiment: as it was run.
        model: parameters and buffers by their names in a checkpoint.
        feedback: what labels mean.
        items: features of the catalogue.
        user_tokens: rows of the users' token table.

    """
    if not experiment.blend.members:
        return _single(experiment, model, feedback, items, user_tokens)
    members = []
    for name, member in experiment.members().items():
        prefix = f"{MEMBER}{name}."
        own = {n.removeprefix(prefix): p for n, p in model.items() if n.startswith(prefix)}
        members.append(_single(member, own, feedback, items, user_tokens))
    return Blend(members, model[WEIGHTS], model[SIZES], feedback)


def _single(
    experiment: Experiment, model: Params, feedback: Feedback, items: Features, user_tokens: int
) -> Fitted | Trained:
    learner = experiment.algorithm
    if isinstance(learner, FittedLearner):
        return Fitted(learner, model, feedback, n_items=len(items.tokens), user_tokens=user_tokens)
    return Trained(learner, model, feedback, items=items)
