"""The predictor of one learner: fitted on whole histories, or trained through the towers.

Knows a learner's parameters and encodes its catalogue once; does not know ids, requests, files or
blends. Adaptation is the same code that training ran.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from metarec_ray.algorithms.base import Learner, MetaLearner, Params, Problem
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
from metarec_ray.core.batch import Encoded, Features, plain
from metarec_ray.data.settings import Feedback
from metarec_ray.inference.supports import Supports
from metarec_ray.models.towers import TABLES, encode, head_score

CHUNK = 64  # tasks adapted side by side
EVENTS = 5  # columns of a task that have an entry an event


Adapt = Callable[[Problem, Params, Encoded], Params]
Score = Callable[[Problem, Params, Params, Encoded], Tensor]


class Heads(NamedTuple):
    """Adapted heads of T tasks, and whom they score for."""

    params: Params  # adapted ones [T, ...], those that all tasks share without T
    user: Tensor  # float [T, D]
    now: Tensor  # float [T, 1, D]

    def scores(self, items: EncodedItems) -> Tensor:
        """Return the scores [T, M] of the items [T, M] of each task, or of [M] for all."""
        return head_score(self.params, encode_candidates(items, self.user, self.now))


class _Single(ABC):
    """One learner: batches its mathematics of one task."""

    items: EncodedItems

    def __init__(self, learner: Learner, meta: Params):
        self.learner, self.meta = learner, meta
        # Learners that are batched take T tasks at once; vmap makes T of the others' one.
        self.at_once = isinstance(learner, MetaLearner) and learner.batched
        self._adapt: Adapt = learner.adapt
        self._score: Score = learner.score
        if isinstance(learner, MetaLearner) and learner.batched:
            self._adapt, self._score = learner.adapt_batch, learner.score_batch

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
        def judge(wanted: Tensor, *columns: Tensor) -> Params:
            problem, support = self._asked(*columns)
            fast = self._adapt(problem, self.meta, support)
            candidates = self.items if items is None else self.items.at(wanted)
            *_, user, now = columns
            asked = encode_candidates(candidates, user, now)
            return {"scores": self._score(problem, self.meta, fast, asked)}

        columns = self._columns(supports)
        wanted = supports.item if items is None else items
        if len(wanted) <= CHUNK:  # a request: nothing stands beside it
            return self._each(judge, wanted, *columns)["scores"]
        # Side by side are supports of like length: short ones must not pay for the longest.
        lengths = _lengths(supports.mask)
        order = lengths.argsort(stable=True)
        found = []
        for part in order.split(CHUNK):
            longest = max(1, int(lengths[part].max()))
            of_events = [column[part, :longest] for column in columns[:EVENTS]]
            rest = [column[part] for column in columns[EVENTS:]]
            found.append(self._each(judge, wanted[part], *of_events, *rest)["scores"])
        return torch.cat(found)[order.argsort()]

    @torch.no_grad()
    def adapted(self, supports: Supports) -> int:
        problem, support = self._asked(*(column[0] for column in self._columns(supports)))
        fast = self.learner.adapt(problem, self.meta, support)
        return sum(value.numel() for value in self._changed(fast).values())

    def _each(self, of_task: Callable[..., Params], *columns: Tensor) -> Params:
        """Return what `of_task` makes of each task's columns, [T, ...]."""
        if self.at_once:
            return of_task(*columns)
        if len(columns[0]) == 1:  # without vmap, which costs a single task more than its work
            made = of_task(*(column[0] for column in columns))
            return {name: value.unsqueeze(0) for name, value in made.items()}
        return vmap(of_task)(*columns)

    def _asked(self, *columns: Tensor) -> tuple[Problem, Encoded]:
        """Return what a task, or T at once, may ask and its support."""
        item, label, mask, time, context, user, now = columns
        support = Support(self.items.at(item), context, label, mask, time)
        return self._problem(user, now), encode_support(support, user)

    def _changed(self, fast: Params) -> Params:
        return {name: value for name, value in fast.items() if value is not self.meta.get(name)}


class Fitted(_Single):
    """The predictor of a learner that was fitted on whole histories."""

    def __init__(
        self, learner: Learner, model: Params, feedback: Feedback, *, n_items: int, user_tokens: int
    ):
        """Take parameters by their names in a checkpoint."""
        super().__init__(learner, _parameters(model))
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
        super().__init__(learner, {n: p for n, p in _parameters(model).items() if n not in TABLES})
        self.feedback: Feedback = feedback
        self.log_q = model[BUFFER + "reference.log_q"]
        rows = torch.arange(len(items.tokens))
        with torch.no_grad():
            vectors = encode(self.meta, "item", items, model.get("item.ids"))
        self.items = EncodedItems(rows, vectors, model[BUFFER + "offset"])
        self.reference = self.items.at(model[BUFFER + "reference.items"])

    @property
    def by_head(self) -> bool:
        """Whether scores are the head's own at the adapted parameters: no more than `heads`."""
        return type(self.learner).score is MetaLearner.score

    @torch.no_grad()
    def heads(self, supports: Supports) -> "Heads":
        """Return the head of each task after adapting on its support set."""

        def adapt(*columns: Tensor) -> Params:
            problem, support = self._asked(*columns)
            return self._changed(self._adapt(problem, self.meta, support))

        columns = self._columns(supports)
        *_, user, now = columns
        return Heads(self.meta | self._each(adapt, *columns), user, now)

    def _problem(self, user: Tensor, now: Tensor) -> Problem:
        begins = torch.ones(user.shape[:-1], dtype=torch.bool)
        return make_problem(self.feedback, self.reference, self.log_q, user, now, begins=begins)

    def _columns(self, supports: Supports) -> list[Tensor]:
        has_context = supports.context.tokens.shape[-1] + supports.context.dense.shape[-1] > 0
        now = encode(self.meta, "context", supports.now)
        context = encode(self.meta, "context", supports.context) if has_context else now
        return [
            supports.item,
            supports.label,
            supports.mask,
            supports.time,
            context,
            encode(self.meta, "user", supports.user),
            now,
        ]


def _lengths(mask: Tensor) -> Tensor:
    """Return how far the real events of each support reach, int64 [T], from `mask` [T, N]."""
    places = mask * torch.arange(1, mask.shape[1] + 1)
    return torch.nn.functional.pad(places, (0, 1)).amax(1)


def _parameters(model: Params) -> Params:
    return {name: value for name, value in model.items() if not name.startswith(BUFFER)}
