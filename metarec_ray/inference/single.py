"""The predictor of one learner: fitted on whole histories, or trained through the towers.

Knows a learner's parameters and encodes its catalogue once; does not know ids, requests, files or
blends. Adaptation is the same code that training ran, on labels without a unit as there; what goes
out is in the unit of the labels again.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from metarec_ray.algorithms.base import Learner, MetaLearner, Problem
from metarec_ray.algorithms.label_scale import UNCHANGED, LabelScale
from metarec_ray.algorithms.problem import (
    EncodedItems,
    Recipe,
    Reencoder,
    Support,
    encode_candidates,
    encode_support,
    encoded_table,
    make_problem,
    no_problem,
    unencoded,
)
from metarec_ray.checkpoint import BUFFER, require_parameters
from metarec_ray.core.batch import Encoded, Features, Params, plain
from metarec_ray.data.settings import Feedback
from metarec_ray.inference.heads import Heads
from metarec_ray.inference.supports import EncodedSupports, Supports
from metarec_ray.models.towers import TABLES

CHUNK = 64  # tasks adapted side by side

Adapt = Callable[[Problem, Params, Encoded], Params]
Score = Callable[[Problem, Params, Params, Encoded], Tensor]


class _Held(NamedTuple):
    """The request that was scored last: asking how sure its scores are adapts no second time."""

    supports: Supports
    asked: EncodedSupports  # of its task, without the axis of tasks
    problem: Problem
    fast: Params


class _Single(ABC):
    """One learner: batches its mathematics of one task."""

    items: EncodedItems

    def __init__(self, learner: Learner, meta: Params, label_scale: LabelScale, *, batched: bool):
        """Take the parameters in use, and what labels are standardised by.

        `batched` learners take T tasks at once, vmap makes T of one else.
        """
        self.learner, self.meta, self.batched = learner, meta, batched
        self.label_scale = label_scale
        self._sure = not batched and type(learner).score_std is not Learner.score_std
        self._held: _Held | None = None
        self._adapt: Adapt = learner.adapt
        self._score: Score = learner.score
        if batched:
            assert isinstance(learner, MetaLearner)
            self._adapt, self._score = learner.adapt_batch, learner.score_batch

    @abstractmethod
    def _encoded(self, supports: Supports) -> EncodedSupports:
        """Return what tasks ask, encoded."""

    @abstractmethod
    def _problem(self, asked: EncodedSupports) -> Problem:
        """Return what a learner may ask of the task, or of T at once."""

    @property
    def shares_are_scores(self) -> bool:
        """Whether `log_share` changes nothing: an item's share is then known from its own score."""
        return type(self.learner).log_share is Learner.log_share

    def log_share(self, scores: Tensor) -> Tensor:
        return self.learner.log_share(scores)

    @torch.no_grad()
    def scores(self, supports: Supports, *, items: Tensor | None = None) -> Tensor:
        alone = self._sure and len(supports.item) == 1

        def judge(wanted: Tensor, asked: EncodedSupports) -> Params:
            problem, support = self._problem(asked), self._support(asked)
            fast = self._adapt(problem, self.meta, support)
            if alone:
                self._held = _Held(supports, asked, problem, fast)
            candidates = self.items if items is None else self.items.at(wanted)
            encoded = encode_candidates(candidates, asked.user, asked.now)
            return {"scores": self._score(problem, self.meta, fast, encoded)}

        asked = self._asked(supports)
        wanted = supports.item if items is None else items
        if len(wanted) <= CHUNK:  # a request: nothing stands beside it
            return self.label_scale.restore(self._each(judge, wanted, asked)["scores"])
        # Side by side are supports of like length: short ones must not pay for the longest.
        lengths = _lengths(supports.mask)
        order = lengths.argsort(stable=True)
        found = []
        for part in order.split(CHUNK):
            longest = max(1, int(lengths[part].max()))
            found.append(self._each(judge, wanted[part], asked.of(part, longest))["scores"])
        return self.label_scale.restore(torch.cat(found)[order.argsort()])

    @torch.no_grad()
    def stds(self, supports: Supports, items: Tensor) -> Tensor | None:
        if not self._sure:
            return None
        held = self._held  # once: another thread may score another request meanwhile
        if held is None or held.supports is not supports:
            asked = self._asked(supports).first()
            problem = self._problem(asked)
            fast = self._adapt(problem, self.meta, self._support(asked))
            held = _Held(supports, asked, problem, fast)
        _, asked, problem, fast = held
        encoded = encode_candidates(self.items.at(items[0]), asked.user, asked.now)
        found = self.learner.score_std(problem, self.meta, fast, encoded)
        return None if found is None else self.label_scale.std * found.unsqueeze(0)

    @torch.no_grad()
    def adapted(self, supports: Supports) -> int:
        asked = self._asked(supports).first()
        fast = self.learner.adapt(self._problem(asked), self.meta, self._support(asked))
        return sum(value.numel() for value in self._changed(fast).values())

    def _asked(self, supports: Supports) -> EncodedSupports:
        """Return what tasks ask, encoded, their labels as the learner is given them."""
        label = self.label_scale.standardise(supports.label, supports.mask)
        return self._encoded(supports._replace(label=label))

    def _each(
        self,
        of_task: Callable[[Tensor, EncodedSupports], Params],
        wanted: Tensor,
        asked: EncodedSupports,
    ) -> Params:
        """Return what `of_task` makes of what each task wants and asks, [T, ...]."""
        if self.batched:
            return of_task(wanted, asked)
        if len(wanted) == 1:  # without vmap, which costs a single task more than its work
            made = of_task(wanted[0], asked.first())
            return {name: value.unsqueeze(0) for name, value in made.items()}
        return vmap(of_task)(wanted, asked)

    def _support(self, asked: EncodedSupports) -> Encoded:
        """Return the support of a task, or of T at once."""
        items = self.items.at(asked.item)
        support = Support(items, asked.context, asked.label, asked.mask, asked.time, asked.labels)
        return encode_support(support, asked.user)

    def _changed(self, fast: Params) -> Params:
        return {name: value for name, value in fast.items() if value is not self.meta.get(name)}


class Fitted(_Single):
    """The predictor of a learner that was fitted on whole histories."""

    def __init__(
        self, learner: Learner, model: Params, feedback: Feedback, *, n_items: int, user_tokens: int
    ):
        """Take parameters by their names in a checkpoint."""
        super().__init__(learner, _parameters(model), _label_scale(model), batched=False)
        self.problem, self.items = no_problem(feedback), unencoded(n_items)
        self.user_tokens = user_tokens

    def _problem(self, asked: EncodedSupports) -> Problem:
        return self.problem

    def _encoded(self, supports: Supports) -> EncodedSupports:
        nothing = torch.zeros(len(supports.item), 1, 0)
        return supports.encoded(nothing, plain(supports.user, self.user_tokens), nothing)


class Trained(_Single):
    """The predictor of a meta-learner: the towers encode, the catalogue once."""

    def __init__(self, recipe: Recipe, model: Params, *, items: Features, labels: int = 0):
        """Take parameters by their names in a checkpoint, and the catalogue's features.

        `labels` is how many further labels events had that were learned from.
        """
        own = {n: p for n, p in _parameters(model).items() if n not in TABLES}
        learner = recipe.learner
        declared = learner.init(own, torch.Generator()) | learner.init_labels(own, labels)
        require_parameters(own, declared)
        super().__init__(recipe.learner, own, _label_scale(model), batched=recipe.batched)
        self.recipe, self.features, self.ids = recipe, items, model.get("item.ids")
        self.log_q = model[BUFFER + "reference.log_q"]
        rows = torch.arange(len(items.tokens))
        with torch.no_grad():
            vectors = recipe.model.encode(self.meta, "item", items, self.ids)
        self.items = encoded_table(rows, vectors, model[BUFFER + "offset"])
        self.reference = self.items.at(model[BUFFER + "reference.items"])

    @property
    def by_head(self) -> bool:
        """Whether scores are the head's own at the adapted parameters: no more than `heads`."""
        learner, adapts = self.recipe.learner, self.recipe.model.encoder.adapts
        return type(learner).score is MetaLearner.score and not adapts

    @torch.no_grad()
    def heads(self, supports: Supports) -> Heads:
        """Return the head of each task after adapting on its support set."""

        def adapt(wanted: Tensor, asked: EncodedSupports) -> Params:
            problem = self._problem(asked)
            return self._changed(self._adapt(problem, self.meta, self._support(asked)))

        asked = self._asked(supports)
        params = self.meta | self._each(adapt, supports.item, asked)
        return Heads(self.label_scale, params, asked.user, asked.now)

    def _problem(self, asked: EncodedSupports) -> Problem:
        reencoder = None
        if asked.raw:
            user, nobody = Features(*asked.raw), torch.zeros(1)
            model, adapting = self.recipe.model, self.recipe.adapting
            reencoder = Reencoder(model, self.features, self.ids, user, nobody, adapting)
        return make_problem(
            self.recipe.feedback,
            self.reference,
            self.log_q,
            asked.user,
            asked.now,
            loss=self.recipe.loss,
            begins=torch.ones(asked.user.shape[:-1], dtype=torch.bool),
            reencoder=reencoder,
        )

    def _encoded(self, supports: Supports) -> EncodedSupports:
        model = self.recipe.model
        has_context = supports.context.tokens.shape[-1] + supports.context.dense.shape[-1] > 0
        now = model.encode(self.meta, "context", supports.now)
        context = model.encode(self.meta, "context", supports.context) if has_context else now
        user = model.encode(self.meta, "user", supports.user)
        return supports.encoded(context, user, now, raw=model.encoder.adapts)


def _lengths(mask: Tensor) -> Tensor:
    """Return how far the real events of each support reach, int64 [T], from `mask` [T, N]."""
    places = mask * torch.arange(1, mask.shape[1] + 1)
    return torch.nn.functional.pad(places, (0, 1)).amax(1)


def _label_scale(model: Params) -> LabelScale:
    # Checkpoints of before labels were standardised have none.
    return LabelScale.of_buffers(model, BUFFER) or UNCHANGED


def _parameters(model: Params) -> Params:
    return {name: value for name, value in model.items() if not name.startswith(BUFFER)}
