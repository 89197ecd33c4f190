"""DropoutNet: networks from preferences and content to scores, trained with dropped preferences.

Knows a factorization and plain features of both sides. Axes: B users of a batch, S sampled items,
P preference factors, H hidden units.
"""

from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem
from metarec_ray.algorithms.rivals.als import IAls
from metarec_ray.algorithms.rivals.least_squares import blocks, solve_rows
from metarec_ray.algorithms.sums import positive_pairs, positives
from metarec_ray.core.batch import Encoded, Params, at_rows
from metarec_ray.core.histories import Histories

_SAMPLE = 1024  # items for each batch of users, half of them items that these users met


class DropoutNet(FittedLearner):
    """Networks for users and items that learn to work without preferences [Volkovs et al., 2017].

    Inputs are preferences and content. An item's preference vector is its factors from iALS, a
    user's the shrunk mean of those of some of the user's items; each is dropped at random in
    training. The target is the score of iALS, with squared error. A new user's preferences come
    from the support; with an empty support there is content alone.

    Attributes:
        factors, unobserved, penalty: of the factorization, as in `IAls`.
        hidden: units of the one hidden layer of each network.
        dropout: share of preference inputs that are dropped.
        shrink: number of zero vectors in the mean, whose length then tells the network of how many
            items it is.
        longest: largest number of a user's items that are averaged in training.
        epochs: passes over the users.
        batch: users in each step.
        learning_rate: of Adam; it falls linearly to 0.

    """

    name: Literal["dropoutnet"] = "dropoutnet"
    kind: ClassVar = "rival"
    ranks_only: ClassVar = True
    factors: PositiveInt = 64
    unobserved: PositiveFloat = 0.3
    penalty: PositiveFloat = 0.01
    hidden: PositiveInt = 128
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    shrink: NonNegativeFloat = 3.0
    longest: PositiveInt = 20
    epochs: PositiveInt = 30
    batch: PositiveInt = 64
    learning_rate: PositiveFloat = 0.003
    positive_min: float | None = None

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        data = self._data(histories, fitting)
        generator = torch.Generator().manual_seed(fitting.seed)
        net = self._start(data, generator)
        optimizer = torch.optim.Adam(list(net.values()), lr=self.learning_rate)
        # Without positives there is no target: the networks stay as initialised.
        epochs = self.epochs if len(data.known) else 0
        steps = epochs * -(-len(data.known) // self.batch)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, max(steps, 1))
        loss = torch.zeros(())
        for epoch in range(epochs):
            order = torch.randperm(len(data.known), generator=generator)
            for users in data.known[order].split(self.batch):
                optimizer.zero_grad()
                loss = self._loss(net, data, users, generator)
                loss.backward()
                optimizer.step()
                schedule.step()
            fitting.progress(f"{self.name} epoch {epoch + 1}/{self.epochs} loss {loss.item():.4g}")
        fixed = {name: weight.detach() for name, weight in net.items()}
        return {
            "preference": data.item,
            "item": _tower(fixed, "item", data.item, data.item_content),
            **{name: weight for name, weight in fixed.items() if name.startswith("user.")},
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        kept = positives(support, self.positive_min).to(meta["preference"].dtype)
        total = kept @ meta["preference"][support.index]
        mean = total / (kept.sum() + self.shrink).clamp(min=1)
        return {"user": _tower(meta, "user", mean, support.user)}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        return at_rows(lambda item: item @ fast["user"], candidates.index, meta["item"])

    def _data(self, histories: Histories, fitting: Fitting) -> "_Data":
        factorization = IAls(
            factors=self.factors,
            unobserved=self.unobserved,
            penalty=self.penalty,
            positive_min=self.positive_min,
        )
        meta = factorization.fit(histories, fitting)
        user, item = positive_pairs(histories, self.positive_min)
        n_users = histories.n_entities
        system = factorization.system(meta["item"], meta["gram"])
        rows = blocks(user, item, torch.ones(len(item)))
        counts = torch.bincount(user, minlength=n_users)
        table = meta["item"] / _rms(meta["item"])
        users = solve_rows(system, rows, n_users, fitting)
        # Inputs and targets of order 1, whatever the scale of the factors.
        squares = ((users.T @ users) * (table.T @ table)).sum() / (len(users) * len(table))
        return _Data(
            known=counts.nonzero().squeeze(1),
            user=users / squares.sqrt().clamp(min=1e-9),
            item=table,
            user_content=histories.users.matrix(),
            item_content=histories.items.within_range(histories.met_items()).matrix(),
            starts=counts.cumsum(0) - counts,
            counts=counts,
            met=item,
        )

    def _start(self, data: "_Data", generator: Generator) -> Params:
        net: Params = {}
        for side, content in (("user", data.user_content), ("item", data.item_content)):
            shapes = {
                "preference": (self.factors, self.hidden),
                "content": (content.shape[1], self.hidden),
                "out": (self.hidden, self.factors),
            }
            for name, shape in shapes.items():
                # A score sums products of outputs over factors: it starts at order 1 as well.
                scale = max(shape[0], 1) ** -0.5 * (self.factors**-0.25 if name == "out" else 1)
                net[f"{side}.{name}"] = torch.randn(shape, generator=generator) * scale
            net[f"{side}.bias"] = torch.zeros(self.hidden)
            net[f"{side}.out_bias"] = torch.zeros(self.factors)
        return {name: weight.requires_grad_() for name, weight in net.items()}

    def _loss(self, net: Params, data: "_Data", users: Tensor, generator: Generator) -> Tensor:
        """Return the mean squared error to the scores of iALS, on a sample of items."""
        length = torch.randint(1, self.longest + 1, (len(users), 1), generator=generator)
        draws = torch.rand(len(users), self.longest, generator=generator)
        drawn = data.met[_drawn(data.starts[users], data.counts[users], draws)]
        kept = (torch.arange(self.longest) < length).unsqueeze(-1)
        mean = (data.item[drawn] * kept).sum(1) / (length + self.shrink)
        some = drawn.flatten()[torch.randperm(drawn.numel(), generator=generator)[: _SAMPLE // 2]]
        others = torch.randint(len(data.item), (_SAMPLE // 2,), generator=generator)
        items = torch.cat([some, others])
        user_input = mean * self._keep(len(users), generator)
        item_input = data.item[items] * self._keep(len(items), generator)
        found = (
            _tower(net, "user", user_input, data.user_content[users])
            @ _tower(net, "item", item_input, data.item_content[items]).T
        )
        return (found - data.user[users] @ data.item[items].T).square().mean()

    def _keep(self, n: int, generator: Generator) -> Tensor:
        return (torch.rand(n, 1, generator=generator) >= self.dropout).float()


class _Data(NamedTuple):
    """What training reads: preferences and content of both sides, and each user's items."""

    known: Tensor  # int64: users with a positive
    user: Tensor  # float [users, P]
    item: Tensor  # float [items, P]
    user_content: Tensor  # float [users, F]
    item_content: Tensor  # float [items, F]
    starts: Tensor  # int64 [users]: of each user's items in `met`
    counts: Tensor  # int64 [users]
    met: Tensor  # int64: items, user after user


def _drawn(starts: Tensor, counts: Tensor, draws: Tensor) -> Tensor:
    """Return positions [B, n] in `met` of random items of each user, for draws [B, n] in [0, 1)."""
    # Added as integers: float32 cannot represent large positions exactly.
    step = (draws * counts.unsqueeze(1)).long()
    return starts.unsqueeze(1) + torch.minimum(step, counts.unsqueeze(1) - 1)


def _tower(net: Params, side: str, preference: Tensor, content: Tensor) -> Tensor:
    hidden = torch.tanh(
        preference @ net[f"{side}.preference"]
        + content @ net[f"{side}.content"]
        + net[f"{side}.bias"]
    )
    return hidden @ net[f"{side}.out"] + net[f"{side}.out_bias"]


def _rms(table: Tensor) -> Tensor:
    return table.square().mean().sqrt().clamp(min=1e-9)
