"""Self-attentive sequential recommendation: the next item at every position of a history.

Knows the order of items; no labels, no times, no content. Whole histories are learned from, all
positions at once. Axes: B histories of a batch, N events, K = N + 1 prefixes (0 to N events), D
dimensions, P positions of a batch in a row.
"""

from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Generator, Tensor
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem
from metarec_ray.algorithms.in_context.next_items import (
    Batch,
    Windows,
    class_loss,
    dropped,
    sampled_classes,
)
from metarec_ray.algorithms.in_context.shared import Share, normal
from metarec_ray.core.batch import Encoded, Params, at_rows
from metarec_ray.core.histories import Histories
from metarec_ray.core.parameters import under

_TELL = 50  # steps between two lines of progress
_WARM_UP = 0.05  # share of the steps in which the learning rate rises


class SasRec(FittedLearner):
    """A causal transformer whose item embeddings are its inputs and its output layer.

    [Kang & McAuley, 2018, arXiv:1808.09781]: learned positions, blocks of self-attention and of a
    feed-forward network as wide as the embeddings. The loss is the softmax over the catalogue, as
    in later runs of the method [Klenitskiy & Vasilev, 2023, arXiv:2309.07602], not the paper's
    cross-entropy with one negative; blocks normalise what they read (pre-norm), items have a bias,
    and attention weights are not dropped. A token before the first event predicts it: its state is
    that of an empty support. A new user is a short history.

    Attributes:
        max_events: newest events that are read.
        dim: of embeddings and states, a multiple of `heads`.
        blocks, heads: of self-attention.
        dropout: share of the entries of embeddings and hidden units that is dropped in training.
        epochs: passes over the histories; of a long one the newest `max_events` + 1 are learned.
        batch: histories in each step.
        learning_rate: the highest, of AdamW; it rises at first and then falls to 0.
        weight_decay: of AdamW.
        init_scale: standard deviation of initial embeddings.
        full_items: a larger catalogue is not scored whole in training: the items that a step has to
            predict, and `sample` others drawn for it, stand for the catalogue.
        sample: how many.

    """

    name: Literal["sasrec"] = "sasrec"
    suits: ClassVar = ("implicit",)
    max_events: PositiveInt = 200
    dim: PositiveInt = 64
    blocks: PositiveInt = 2
    heads: PositiveInt = 2
    dropout: Share = 0.2
    epochs: PositiveInt = 36
    batch: PositiveInt = 32
    learning_rate: PositiveFloat = 0.003
    weight_decay: NonNegativeFloat = 0.0
    init_scale: PositiveFloat = 0.02
    full_items: PositiveInt = 20_000
    sample: PositiveInt = 4096

    @model_validator(mode="after")
    def _divides(self) -> "SasRec":
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads, got {self.dim} and {self.heads}")
        return self

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        windows = Windows.of(histories, self.max_events + 1)
        generator = torch.Generator().manual_seed(fitting.seed)
        net = self._start(histories.n_items, generator)
        self._descend(net, windows, generator, fitting)
        return {name: weight.detach() for name, weight in net.items()}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        begins = support.mask.sum(-1) <= self.max_events
        support = support.newest(self.max_events)
        states = self._states(meta, self._tokens(meta, support.index, begins))
        last = support.mask.sum(-1)[..., None, None]
        last = last.expand(*support.mask.shape[:-1], 1, self.dim)
        return {"user": states.gather(-2, last).squeeze(-2)}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        def scores(item: Tensor, bias: Tensor) -> Tensor:
            return item @ fast["user"] + bias

        return at_rows(scores, candidates.index, meta["item"], meta["bias"])

    def _descend(
        self, net: Params, windows: Windows, generator: Generator, fitting: Fitting
    ) -> None:
        """Train the network in place."""
        optimizer = torch.optim.AdamW(
            list(net.values()), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        steps = windows.steps(self.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            self.learning_rate,
            total_steps=max(self.epochs * steps, 1),
            pct_start=_WARM_UP,
            cycle_momentum=False,
        )
        for epoch in range(self.epochs):
            for step, batch in enumerate(windows.batches(self.batch, generator), 1):
                optimizer.zero_grad()
                loss = self._loss(net, batch, windows.share, generator)
                loss.backward()
                optimizer.step()
                schedule.step()
                if step % _TELL == 0 or step == steps:
                    done = f"epoch {epoch + 1}/{self.epochs} step {step}/{steps}"
                    fitting.progress(f"{self.name} {done} loss {loss.item():.4g}")

    def _loss(self, net: Params, batch: Batch, share: Tensor, generator: Generator) -> Tensor:
        """Return the mean loss of the batch's items, each under the state before it."""
        tokens = self._tokens(net, batch.item[:, :-1], batch.begins)
        states = self._states(net, tokens, generator)[batch.mask]
        target = batch.item[batch.mask]
        if len(share) <= self.full_items:
            return class_loss(states, net["item"], net["bias"], target)
        items, log_share = sampled_classes(target, share, self.sample, generator)
        bias = net["bias"][items] - log_share
        return class_loss(states, net["item"][items], bias, torch.searchsorted(items, target))

    def _tokens(self, net: Params, item: Tensor, begins: Tensor) -> Tensor:
        """Return tokens [*, K, D] of items [*, N]; the first says whether the history begins."""
        start = net["start"][begins.long()].unsqueeze(-2)
        return torch.cat([start, net["item"][item] * self.dim**0.5], -2)

    def _states(self, net: Params, tokens: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the state after each token [*, K, D], independent of later tokens.

        The generator drops entries, in training.
        """

        def some(states: Tensor) -> Tensor:
            return states if generator is None else dropped(states, self.dropout, generator)

        states = some(tokens + net["position"][: tokens.shape[-2]])
        for block in range(self.blocks):
            own = under(f"{block}.", net)
            states = states + some(self._attend(own, _normed(states, own["norm"][0])))
            hidden = torch.relu(_normed(states, own["norm"][1]) @ own["up"] + own["up.bias"])
            states = states + some(some(hidden) @ own["down"] + own["down.bias"])
        return _normed(states, net["norm"])

    def _attend(self, own: Params, hidden: Tensor) -> Tensor:
        joint = hidden @ own["attend"] + own["attend.bias"]
        parts = joint.unflatten(-1, (3, self.heads, self.dim // self.heads)).unbind(-3)
        query, key, value = (part.transpose(-3, -2) for part in parts)  # [*, heads, K, width]
        # Padding comes last, so the causal mask covers it.
        found = scaled_dot_product_attention(query, key, value, is_causal=True)
        return found.transpose(-3, -2).flatten(-2) @ own["join"] + own["join.bias"]

    def _start(self, n_items: int, generator: Generator) -> Params:
        dim = self.dim
        norm = torch.stack([torch.ones(dim), torch.zeros(dim)])
        net = {
            "item": normal((n_items, dim), self.init_scale, generator),
            "bias": torch.zeros(n_items),
            "start": normal((2, dim), self.init_scale * dim**0.5, generator),
            "position": normal((self.max_events + 1, dim), self.init_scale, generator),
            "norm": norm,
        }
        widths = {"attend": 3 * dim, "join": dim, "up": dim, "down": dim}
        for block in range(self.blocks):
            net[f"{block}.norm"] = torch.stack([norm, norm])
            for layer, width in widths.items():
                net[f"{block}.{layer}"] = normal((dim, width), dim**-0.5, generator)
                net[f"{block}.{layer}.bias"] = torch.zeros(width)
        return {name: weight.requires_grad_() for name, weight in net.items()}


def _normed(states: Tensor, norm: Tensor) -> Tensor:
    """Return the states normalised, times the first row of `norm`, plus the second."""
    return layer_norm(states, states.shape[-1:], norm[0], norm[1])
