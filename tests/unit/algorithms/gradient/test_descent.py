"""Inner loops of many tasks at once, compared with vmap over one task, in float64.

Numbers of tasks, lengths of supports (none and one event among them), steps, layers, rates, kinds
of feedback and contexts are drawn; what is compared is every element of every gradient, and scores.
"""

from functools import partial
from typing import NamedTuple

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import vmap

from metarec_ray.algorithms.gradient.maml import (
    Anil,
    Fomaml,
    GradientLearner,
    Maml,
    MetaSgd,
    Reptile,
)
from metarec_ray.algorithms.problem import (
    EncodedItems,
    Recipe,
    Support,
    encode_candidates,
    encode_support,
    make_problem,
)
from metarec_ray.core.batch import Encoded, Events, Features, Lane, Params, Task
from metarec_ray.core.outer_loop import MetaGradient, meta_gradient
from metarec_ray.core.parameters import split, values
from metarec_ray.data.settings import Feedback
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.towers import Sides, Towers
from metarec_ray.training.meta_step.objective import lane_objective

ITEMS, DIM, QUERY = 9, 3, 3
LEARNERS = (Maml, Fomaml, Anil, MetaSgd, Reptile)
LONG = st.sampled_from([(), (), (400,)])  # a task that has no other beside it
REPRODUCIBLE = settings(derandomize=True, deadline=None, database=None)


class Case(NamedTuple):
    """What is drawn."""

    learner: GradientLearner
    feedback: Feedback
    hidden: tuple[int, ...]
    support: tuple[int, ...]  # events of each task
    contexts: bool  # whether events have one each
    negatives: int
    reference: int
    seed: int


@st.composite
def cases(draw) -> Case:
    fields = {
        "inner_lr": draw(st.sampled_from([0.02, 0.1])),
        "inner_steps": draw(st.integers(1, 5)),
        "half_life": draw(st.sampled_from([None, 2.0])),
        "prior_events": draw(st.sampled_from([0.0, 1.5])),
    }
    learner = draw(st.sampled_from(LEARNERS))
    if learner is not Anil:
        fields["layers"] = draw(st.sampled_from([None, 1, 2, 3]))
    return Case(
        learner=learner(**fields),
        feedback=draw(st.sampled_from(["explicit", "binary", "implicit"])),
        # Wide layers on few events are factored, others dense.
        hidden=draw(st.sampled_from([(), (4,), (4, 5), (3, 4, 2), (24, 24)])),
        support=(*draw(st.lists(st.integers(0, 6), min_size=1, max_size=4)), *draw(LONG)),
        contexts=draw(st.booleans()),
        negatives=draw(st.sampled_from([0, 2])),
        reference=draw(st.sampled_from([2, 7])),
        seed=draw(st.integers(0, 99)),
    )


def features(*shape: int, tokens: int = 2) -> Features:
    return Features(
        tokens=torch.randint(1, 4, (*shape, tokens)),
        weights=torch.ones(*shape, tokens, dtype=torch.float64),
        dense=torch.randn(*shape, min(tokens, 1), dtype=torch.float64),
    )


def drawn_items(n: int) -> Tensor:
    """Return int64 [n]: different items, unless there are fewer."""
    return torch.randperm(max(n, ITEMS))[:n] % ITEMS


def events(case: Case, counts: tuple[int, ...]) -> Events:
    tasks, n = len(counts), max(1, *counts)
    mask = torch.arange(n) < torch.tensor(counts).unsqueeze(1)
    label = torch.rand(tasks, n, dtype=torch.float64)
    label = {"explicit": 4 * label, "binary": (label > 0.5).double(), "implicit": label > -1}
    # Padding is not to be read: what it holds is noise.
    return Events(
        item=torch.stack([drawn_items(n) for _ in counts]),
        label=label[case.feedback].double(),
        mask=mask,
        time=torch.arange(n).expand(tasks, n),
        context=features(tasks, n, tokens=2 if case.contexts else 0),
    )


def lane(case: Case) -> Lane:
    torch.manual_seed(case.seed)
    tasks = len(case.support)
    query = tuple(1 + task % QUERY for task in range(tasks))
    return Lane(
        entity=torch.arange(tasks),
        user=features(tasks),
        items=torch.arange(ITEMS),
        item_features=features(ITEMS),
        reference=torch.randperm(ITEMS)[: case.reference],
        tasks=Task(
            support=events(case, case.support),
            query=events(case, query),
            negatives=torch.randint(0, ITEMS, (tasks, case.negatives)),
            begins=torch.arange(tasks) % 2 == 0,
            answers=torch.zeros(tasks, 0),
        ),
    )


def model(case: Case) -> Towers:
    return Towers(dim=DIM, hidden=case.hidden, init_scale=0.3)


def parameters(case: Case) -> tuple[Params, Params]:
    generator = torch.Generator().manual_seed(case.seed)
    side = Side(tokens=4, dense=1)
    sides = Sides(side, side, side, users=len(case.support), items=ITEMS)
    dense, tables = split(model(case).init(sides, generator))
    dense |= values(case.learner.init(dense, generator))
    # What begins at 0 would hide what it multiplies.
    noise = {name: 0.02 if name.startswith("rates.") else 0.2 for name in dense}
    drawn = {n: p + noise[n] * torch.randn(p.shape, generator=generator) for n, p in dense.items()}
    if not case.contexts:
        drawn["context.dense"] = dense["context.dense"]
    as_double = lambda params: {n: p.double() for n, p in params.items()}  # noqa: E731
    return as_double(drawn), as_double(tables)


def buffers(case: Case) -> Params:
    return {
        "offset": torch.linspace(-1, 1, ITEMS, dtype=torch.float64),
        "offset.later": torch.linspace(1, -1, ITEMS, dtype=torch.float64),
        "reference.log_q": torch.linspace(-2, -1, case.reference, dtype=torch.float64),
        "catalogue_size": torch.tensor(float(ITEMS), dtype=torch.float64),
    }


def gradient(case: Case, *, oracle: bool) -> MetaGradient:
    dense, tables = parameters(case)
    recipe = Recipe.of(case.learner, model(case), case.feedback)
    made = lane_objective(recipe, buffers(case), lane(case), oracle=oracle)
    return meta_gradient(made, dense, tables)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    scale = float(expected.detach().abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * max(scale, 1e-3))


USUAL = Case(Maml(inner_steps=3), "explicit", (4, 5), (0, 1, 5, 3), False, 0, 2, 7)
APART = USUAL._replace(learner=Maml(inner_steps=1), support=(1, 400))
WIDE = USUAL._replace(hidden=(24, 24, 24), support=(3, 2), feedback="binary")


@settings(REPRODUCIBLE, max_examples=30)
@example(USUAL)
@example(APART)
@example(APART._replace(contexts=True, feedback="implicit"))
@example(USUAL._replace(learner=MetaSgd(layers=2)))
@example(WIDE)
@example(WIDE._replace(learner=Maml(inner_steps=4, layers=3)))
@given(cases())
def test_gradients_are_those_of_vmap_over_one_task(case: Case) -> None:
    found, expected = gradient(case, oracle=False), gradient(case, oracle=True)
    assert_equal(found.metrics, expected.metrics)
    for name, value in (expected.dense | expected.rows).items():
        assert_equal((found.dense | found.rows)[name], value)


class Asked(NamedTuple):
    """Tensors that tell T tasks: what learns and what is scored."""

    position: Tensor
    label: Tensor
    mask: Tensor
    context: Tensor
    user: Tensor
    now: Tensor
    wanted: Tensor


def asked(case: Case) -> Asked:
    torch.manual_seed(case.seed)
    tasks, n = len(case.support), max(1, *case.support)
    drawn = partial(torch.randn, dtype=torch.float64)
    return Asked(
        position=torch.stack([drawn_items(n) for _ in case.support]),
        label=torch.rand(tasks, n, dtype=torch.float64),
        mask=torch.arange(n) < torch.tensor(case.support).unsqueeze(1),
        context=drawn(tasks, n if case.contexts else 1, DIM),
        user=drawn(tasks, DIM),
        now=drawn(tasks, 1, DIM),
        wanted=torch.stack([torch.randperm(ITEMS)[:5] for _ in case.support]),
    )


def scores(case: Case, meta: Params, tasks: Asked, *, batched: bool) -> tuple[Tensor, ...]:
    """Return the adapted scores of each task's candidates, and of the catalogue."""
    items = EncodedItems(
        torch.arange(ITEMS),
        torch.linspace(-1, 1, ITEMS * DIM).double().sin().view(ITEMS, DIM),
        torch.linspace(-1, 1, ITEMS).double(),
        torch.arange(len(torch.arange(ITEMS))),
    )
    learner, log_q = case.learner, buffers(case)["reference.log_q"]

    def one(position, label, mask, context, user, now, wanted):
        # Without contexts all events share the one that candidates are scored in.
        context = context if case.contexts else now
        reference = items.at(torch.arange(case.reference))
        problem = make_problem(case.feedback, reference, log_q, user, now)
        time = torch.zeros_like(position)
        support = encode_support(Support(items.at(position), context, label, mask, time), user)
        adapt, score = learner.adapt, learner.score
        if batched:
            adapt, score = learner.adapt_batch, learner.score_batch
        fast = adapt(problem, meta, support)
        sets = (items.at(wanted), items)
        return tuple(score(problem, meta, fast, encode_candidates(s, user, now)) for s in sets)

    return one(*tasks) if batched else vmap(one)(*tasks)


@settings(REPRODUCIBLE, max_examples=30)
@given(cases())
def test_adapted_scores_are_those_of_vmap_over_one_task(case: Case) -> None:
    meta, tasks = parameters(case)[0], asked(case)
    found = scores(case, meta, tasks, batched=True)
    for value, expected in zip(found, scores(case, meta, tasks, batched=False), strict=True):
        assert_equal(value, expected)


def encoded(case: Case, meta: Params) -> tuple[Encoded, Encoded, Params]:
    """Return a support, candidates and what they are made of, which may need a gradient."""
    tasks = asked(case)
    made = {
        "item": torch.randn(ITEMS, DIM).double(),
        "user": tasks.user,
        "scale": meta["offset.scale"],
    }
    made = {name: value.clone().requires_grad_() for name, value in made.items()}
    offset = torch.linspace(-1, 1, ITEMS).double()
    items = EncodedItems(
        torch.arange(ITEMS), made["item"], offset, torch.arange(len(torch.arange(ITEMS)))
    )
    time = torch.zeros_like(tasks.position)
    own = Support(items.at(tasks.position), tasks.now, tasks.label, tasks.mask, time)
    support = encode_support(own, made["user"])
    candidates = encode_candidates(items.at(tasks.wanted), made["user"], tasks.now)
    return support, candidates, made


def descended(case: Case, meta: Params, support: Encoded, *, second_order: bool):
    user, now = support.user, support.context
    items = EncodedItems(
        torch.arange(ITEMS),
        torch.zeros(ITEMS, DIM).double(),
        torch.zeros(ITEMS).double(),
        torch.arange(len(torch.arange(ITEMS))),
    )
    problem = make_problem(case.feedback, items, torch.zeros(0), user, now)
    return case.learner.descended(problem, meta, support, second_order=second_order)


def test_a_head_that_scores_twice_has_the_sum_of_both_gradients() -> None:
    meta, _ = parameters(USUAL)
    support, candidates, made = encoded(USUAL, meta)
    fast = descended(USUAL, meta, support, second_order=True)
    one, other = (fast.score(meta, candidates._replace(item=r * candidates.item)) for r in (1, 2))
    values = list(made.values())[:2]
    apart = [torch.autograd.grad(s.sum(), values, retain_graph=True) for s in (one, other)]
    both = torch.autograd.grad(one.sum() + other.sum(), values)
    for together, first, second in zip(both, *apart, strict=True):
        assert_equal(together, first + second)


def test_items_of_a_table_give_the_gradients_of_items_looked_up_before() -> None:
    meta, _ = parameters(USUAL)
    support, candidates, made = encoded(USUAL, meta)
    tasks = asked(USUAL)
    rows = (
        support._replace(item=made["item"], index=tasks.position),
        candidates._replace(item=made["item"], index=tasks.wanted),
    )
    found = []
    for own, others in ((support, candidates), rows):
        fast = descended(USUAL, meta, own, second_order=True)
        score = fast.score(meta, others)
        found.append([score, *torch.autograd.grad((score**2).sum(), list(made.values())[:2])])
    for looked_up, by_row in zip(*found, strict=True):
        assert_equal(by_row, looked_up)


def test_candidates_that_tasks_share_are_scored_as_those_of_each() -> None:
    meta, _ = parameters(USUAL)
    support, _, made = encoded(USUAL, meta)
    tasks, catalogue = asked(USUAL), torch.arange(ITEMS)
    items = EncodedItems(
        catalogue, made["item"], torch.linspace(-1, 1, ITEMS).double(), torch.arange(len(catalogue))
    )
    shared = encode_candidates(items, made["user"], tasks.now)
    each = encode_candidates(items.at(catalogue.expand(4, -1)), made["user"], tasks.now)
    found = []
    values = list(made.values())[:2]
    for asked_about in (shared, each):
        score = descended(USUAL, meta, support, second_order=True).score(meta, asked_about)
        of_made = torch.autograd.grad((score**2).sum(), values, retain_graph=True)
        found.append([score, *of_made])
    for of_all, apart in zip(*found, strict=True):
        assert_equal(of_all, apart)


def test_a_first_order_inner_loop_is_a_constant_to_its_support() -> None:
    meta, _ = parameters(USUAL)
    support, candidates, _ = encoded(USUAL, meta)
    support = support._replace(label=support.label.clone())
    item = support.item.detach().requires_grad_()
    fast = descended(USUAL, meta, support._replace(item=item), second_order=False)
    score = fast.score(meta, candidates)
    assert torch.autograd.grad(score.sum(), [item], allow_unused=True) == (None,)
    again = descended(USUAL, meta, support, second_order=True).score(meta, candidates)
    assert_equal(score, again)


def test_the_backward_pass_may_run_twice() -> None:
    meta, _ = parameters(USUAL)
    support, candidates, made = encoded(USUAL, meta)
    score = descended(USUAL, meta, support, second_order=True).score(meta, candidates)
    values = list(made.values())[:2]
    runs = [torch.autograd.grad((score**2).sum(), values, retain_graph=True) for _ in range(2)]
    for first, again in zip(*runs, strict=True):
        assert torch.equal(first, again)


def test_without_gradients_scores_have_no_graph() -> None:
    meta, _ = parameters(USUAL)
    support, candidates, _ = encoded(USUAL, meta)
    with torch.no_grad():
        score = descended(USUAL, meta, support, second_order=True).score(meta, candidates)
    assert not score.requires_grad


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 2, 1)])
def test_scores_come_in_the_order_of_the_tasks(order: tuple[int, ...]) -> None:
    meta, _ = parameters(USUAL)
    support, candidates, _ = encoded(USUAL, meta)
    index = torch.tensor(order)
    of_tasks = ("index", "item", "offset", "user", "context", "label", "age", "mask", "time")

    def moved(e: Encoded) -> Encoded:
        parts = {n: getattr(e, n) for n in of_tasks}
        return e._replace(**{n: v[index] for n, v in parts.items() if len(v) == len(order)})

    scored = descended(USUAL, meta, support, second_order=False).score(meta, candidates)
    found = descended(USUAL, meta, moved(support), second_order=False).score(
        meta, moved(candidates)
    )
    assert_equal(found, scored[index])
