"""The work of the serving benchmark: catalogues, requests, and the loop that one writes first.

Knows sizes and models; does not know clocks. Catalogues and users are `train_work`'s; a request
holds ten ratings, and a hundred places are asked for.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad
from torch.nn.functional import embedding_bag, mse_loss

from benchmarks.train_work import World, make_lane, parameters
from metarec_ray.algorithms.base import MetaLearner
from metarec_ray.algorithms.closed_form.bayesian import BayesianHead
from metarec_ray.algorithms.gradient.maml import Anil, Maml
from metarec_ray.algorithms.problem import Recipe
from metarec_ray.core.batch import Features, Params
from metarec_ray.data.settings import Feedback
from metarec_ray.inference.single import Trained
from metarec_ray.inference.supports import Supports
from metarec_ray.models.towers import Towers

EVENTS, PLACES, REFERENCE = 10, 100, 512
INNER_LR, INNER_STEPS = 0.02, 5
DIM, HIDDEN = 64, (64, 64)


class Model(NamedTuple):
    """What is served: a learner on a head, and what labels mean."""

    name: str
    learner: MetaLearner
    hidden: tuple[int, ...]
    feedback: Feedback = "explicit"


MODELS = (
    Model("bayesian_head", BayesianHead(), ()),
    Model("bayesian_head_implicit", BayesianHead(), (), "implicit"),
    Model("anil", Anil(inner_lr=INNER_LR, inner_steps=INNER_STEPS), HIDDEN),
    Model("maml_two_layers", Maml(inner_lr=INNER_LR, inner_steps=INNER_STEPS, layers=2), HIDDEN),
    Model("maml", Maml(inner_lr=INNER_LR, inner_steps=INNER_STEPS), HIDDEN),
)


def predictor(of: World, model: Model) -> Trained:
    """Return what serves a model with random parameters over a catalogue."""
    items = len(of.features.tokens)
    towers = Towers(dim=DIM, hidden=model.hidden)
    state = parameters(model.learner, items, towers)
    reference = torch.randperm(items, generator=torch.Generator().manual_seed(2))[:REFERENCE]
    buffers = {
        "offset": of.buffers["offset"],
        "reference.items": reference,
        "reference.log_q": torch.full((len(reference),), len(reference) / items).log(),
    }
    named = {f"buffer.{name}": value for name, value in buffers.items()}
    recipe = Recipe.of(model.learner, towers, model.feedback)
    return Trained(recipe, state.dense | state.tables | named, items=of.features)


def requests(of: World, n: int, seed: int) -> Supports:
    """Return n requests of users that differ."""
    lane = make_lane(of, seed, n)
    support = lane.tasks.support
    nothing = torch.zeros(n, EVENTS, 0)
    context = Features(nothing.long(), nothing, nothing)
    return Supports(
        item=lane.items[support.item[:, :EVENTS]],
        label=support.label[:, :EVENTS],
        mask=support.mask[:, :EVENTS],
        time=support.time[:, :EVENTS],
        context=context,
        user=lane.user,
        now=Features(*(column[:, :1] for column in context)),
    )


class Naive:
    """MAML on two hidden layers as it is first written: every request starts from the tables.

    Looks the vectors of the whole catalogue up, descends on the last two layers by autograd, and
    sends every item, side by side with the user, through the adapted network.
    """

    def __init__(self, of: World):
        model = Towers(dim=DIM, hidden=HIDDEN)
        state = parameters(Maml(), len(of.features.tokens), model)
        self.dense, self.ids = state.dense, state.tables["item.ids"]
        self.features, self.offset = of.features, of.buffers["offset"]

    def lookups(self) -> Tensor:
        """Return the vectors of all items."""
        rows = torch.arange(len(self.ids))
        return self.ids[rows] + _bags(self.dense["item.tokens"], self.features)

    def rank(self, request: Supports, item: Tensor) -> Tensor:
        """Return the rows of the best items for one request, best first, by vectors of all."""
        user = _bags(self.dense["user.tokens"], request.user)
        seen, label = request.item[0], request.label[0]
        fast = {
            name: value.clone().requires_grad_()
            for name, value in self.dense.items()
            if name.startswith(("head.1.", "head.out."))
        }
        for _ in range(INNER_STEPS):
            found = self._scores(self.dense | fast, item[seen], user, self.offset[seen])
            slopes = grad(mse_loss(found, label), list(fast.values()))
            fast = {
                name: value - INNER_LR * slope
                for (name, value), slope in zip(fast.items(), slopes, strict=True)
            }
        with torch.no_grad():
            scores = self._scores(self.dense | fast, item, user, self.offset)
            return torch.topk(scores.index_fill_(0, seen, -torch.inf), PLACES).indices

    def _scores(self, by: Params, item: Tensor, user: Tensor, offset: Tensor) -> Tensor:
        both = torch.cat([item, user.expand(len(item), -1)], 1)
        first = torch.cat([by["head.0.item"], by["head.0.user"]])
        hidden = torch.relu(both @ first + by["head.0.bias"])
        hidden = torch.relu(hidden @ by["head.1.item"] + by["head.1.bias"])
        last = torch.cat([hidden, item], 1) @ by["head.out.weight"] + by["head.out.bias"]
        return last + (item * user).sum(1) + by["offset.scale"] * offset


def _bags(table: Tensor, features: Features) -> Tensor:
    return embedding_bag(features.tokens, table, per_sample_weights=features.weights, mode="sum")
