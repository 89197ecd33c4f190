"""The best items: whatever is scored nearly, the ranking is float32's."""

import math
from collections.abc import Callable
from itertools import count

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.base import MetaLearner
from metarec_ray.algorithms.closed_form.bayesian import BayesianHead
from metarec_ray.algorithms.closed_form.differentiable_ridge import DifferentiableRidge
from metarec_ray.algorithms.gradient.maml import Anil, Maml
from metarec_ray.algorithms.gradient.meta_embedding import MetaEmbedding
from metarec_ray.algorithms.in_context.pair_attention import PairAttention
from metarec_ray.algorithms.in_context.recurrent import Recurrent
from metarec_ray.algorithms.in_context.transformer import CausalTransformer
from metarec_ray.algorithms.label_scale import LabelScale
from metarec_ray.algorithms.metric import MatchingNetwork, PrototypeNetwork
from metarec_ray.algorithms.problem import Recipe
from metarec_ray.algorithms.rivals.two_tower import TwoTower
from metarec_ray.core.batch import Features
from metarec_ray.core.parameters import split, values
from metarec_ray.data.settings import Feedback
from metarec_ray.inference import retrieval
from metarec_ray.inference.predictor import Blend
from metarec_ray.inference.retrieval import Best, Retriever
from metarec_ray.inference.single import Trained
from metarec_ray.inference.supports import Supports
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.towers import Sides, Towers

ITEMS, EVENTS, DIM = 1500, 6, 8
ANY = torch.ones(ITEMS, dtype=torch.bool)
BY_ID = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(9))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def served(
    learner: MetaLearner, feedback: Feedback = "explicit", hidden: tuple[int, ...] = ()
) -> Trained:
    """A learner on random towers: a token an item, no user features but one."""
    model = Towers(dim=DIM, hidden=hidden, init_scale=0.3)
    generator = torch.Generator().manual_seed(1)
    sides = Sides(Side(3, 0), Side(4, 0), Side(1, 0), 1, ITEMS)
    dense, tables = split(model.init(sides, generator))
    dense["head.out.weight"] = drawn(len(dense["head.out.weight"])) * 0.2
    dense |= values(learner.init(dense, generator))
    reference = torch.arange(0, ITEMS, 20)
    buffers = {
        "buffer.offset": drawn(ITEMS, seed=2) * 0.3,
        "buffer.reference.items": reference,
        "buffer.reference.log_q": torch.full((len(reference),), -math.log(20)),
    }
    if feedback == "explicit":
        buffers |= LabelScale(3.0, 1.1).buffers("buffer.")
    tokens = torch.arange(ITEMS).unsqueeze(1) % 4
    items = Features(tokens, torch.ones(ITEMS, 1), torch.zeros(ITEMS, 0))
    recipe = Recipe.of(learner, model, feedback)
    return Trained(recipe, dense | tables | buffers, items=items)


def supports(tasks: int, feedback: Feedback = "explicit") -> Supports:
    """Supports of tasks of which the first has no event."""
    generator = torch.Generator().manual_seed(tasks)
    nothing = torch.zeros(tasks, EVENTS, 0)
    label = drawn(tasks, EVENTS, seed=3) + 3
    return Supports(
        item=torch.randint(ITEMS, (tasks, EVENTS), generator=generator),
        label=torch.ones_like(label) if feedback == "implicit" else label,
        mask=torch.arange(EVENTS) < torch.arange(tasks).unsqueeze(1),
        time=torch.arange(EVENTS).expand(tasks, -1),
        context=Features(nothing.long(), nothing, nothing),
        user=Features(torch.ones(tasks, 1).long(), torch.ones(tasks, 1), nothing[:, 0]),
        now=Features(*(column[:, :1] for column in (nothing.long(), nothing, nothing))),
    )


def clock(*, low: bool) -> Callable[[], float]:
    """Seconds that say the trials of one precision, which come in turn, are the shorter ones."""
    calls = count()

    def now() -> float:
        trial, end = divmod(next(calls), 2)
        is_low = trial % 2 == 1
        return float(end) * (1.0 if is_low == low else 2.0)

    return now


def expected(
    predictor: Trained | Blend, asked: Supports, k: int, allowed: Tensor, *, seen_too: bool = False
) -> list[Best]:
    """The ranking by every item's own score, ties by id."""
    found = []
    for scores, item, mask in zip(predictor.scores(asked), asked.item, asked.mask, strict=True):
        seen = set() if seen_too else set(item[mask].tolist())
        rows = [row for row in allowed.nonzero().flatten().tolist() if row not in seen]
        rows.sort(key=lambda row, s=scores: (-float(s[row]), int(BY_ID[row])))
        found.append(Best(torch.tensor(rows[:k], dtype=torch.int64), scores[rows[:k]]))
    return found


def check(found: list[Best], right: list[Best]) -> None:
    for one, other in zip(found, right, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-5, atol=1e-5)


BY_HEAD = [
    (BayesianHead(), "explicit", ()),
    (BayesianHead(), "implicit", ()),
    (BayesianHead(), "binary", (6,)),
    (Maml(layers=2), "explicit", (6, 5)),
    (Maml(), "explicit", (6, 5)),
    (Anil(), "implicit", (6,)),
    (DifferentiableRidge(), "explicit", ()),
    (PrototypeNetwork(), "implicit", (6,)),
    (MetaEmbedding(), "explicit", (6,)),
    (TwoTower(), "implicit", ()),
    (CausalTransformer(), "explicit", ()),
    (Recurrent(), "implicit", (6,)),
]


@pytest.mark.parametrize("low", [True, False])
@pytest.mark.parametrize(("learner", "feedback", "hidden"), BY_HEAD)
def test_the_best_are_those_of_exact_scores_and_few_are_scored_exactly(
    learner: MetaLearner, feedback: Feedback, hidden: tuple[int, ...], low: bool
) -> None:
    predictor, asked = served(learner, feedback, hidden), supports(3, feedback)
    retriever = Retriever(predictor, ANY, BY_ID, clock=clock(low=low))
    check(retriever.best(asked, 10, exclude_seen=True), expected(predictor, asked, 10, ANY))
    assert retriever.approximate is not None
    assert len(retriever.shortlisted(asked, 10, exclude_seen=True)) == 3


def test_the_faster_precision_is_chosen() -> None:
    for low in (True, False):
        near = Retriever(served(BayesianHead()), ANY, BY_ID, clock=clock(low=low)).approximate
        assert near is not None
        assert near.low == low


def test_a_machine_that_cannot_multiply_integers_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "adds_up", lambda width: False)
    near = Retriever(served(BayesianHead()), ANY, BY_ID, clock=clock(low=True)).approximate
    assert near is not None
    assert not near.low


def test_several_requests_are_a_loop_over_them() -> None:
    asked = supports(7)
    retriever = Retriever(served(Maml(), hidden=(6,)), ANY, BY_ID)
    together = retriever.best(asked, 20, exclude_seen=True)
    for task, one in enumerate(together):
        alone = retriever.best(asked.at(torch.tensor([task])), 20, exclude_seen=True)
        check(alone, [one])


def test_what_was_seen_and_what_may_not_be_ranked_is_left_out() -> None:
    predictor, asked = served(BayesianHead()), supports(4)
    asked.item[:, 0] = predictor.scores(asked).argmax(1)
    asked.item[3, 2] = asked.item[3, 1]  # met twice
    allowed = drawn(ITEMS, seed=5) < 1
    allowed[asked.item[3, :2]] = torch.tensor([True, False])
    allowed[0], predictor.items.offset[0] = True, 9.0  # the best of all, and seen by nobody
    retriever = Retriever(predictor, allowed, BY_ID)
    for k in (10, 90):
        best = retriever.best(asked, k, exclude_seen=True)
        check(best, expected(predictor, asked, k, allowed))
        best = retriever.best(asked, k, exclude_seen=False)
        check(best, expected(predictor, asked, k, allowed, seen_too=True))
        assert len(retriever.shortlisted(asked, k, exclude_seen=True)) == len(asked.item)


@pytest.mark.parametrize("k", [99, 700, 1494, 1500, 5000])
def test_any_number_of_places_is_filled_as_far_as_there_are_items(k: int) -> None:
    predictor, asked = served(BayesianHead()), supports(3)
    found = Retriever(predictor, ANY, BY_ID).best(asked, k, exclude_seen=True)
    check(found, expected(predictor, asked, k, ANY))


def test_everything_seen_is_an_empty_ranking() -> None:
    allowed = torch.zeros(ITEMS, dtype=torch.bool)
    asked = supports(3)
    allowed[asked.item[2, :2]] = True
    found = Retriever(served(BayesianHead()), allowed, BY_ID).best(asked, 5, exclude_seen=True)
    assert [len(one.rows) for one in found] == [
        2,
        1 + (asked.item[1, 0] not in asked.item[2, :2]),
        0,
    ]


def test_twins_are_in_the_order_of_their_ids() -> None:
    predictor = served(BayesianHead())
    twin = torch.arange(ITEMS) // 3
    predictor.items = predictor.items._replace(
        vector=predictor.items.vector[twin], offset=predictor.items.offset[twin]
    )
    asked = supports(3)
    for allowed in (ANY, torch.arange(ITEMS) % 7 > 0):
        found = Retriever(predictor, allowed, BY_ID).best(asked, 50, exclude_seen=True)
        check(found, expected(predictor, asked, 50, allowed))


@pytest.mark.parametrize("bias", [-100.0, 100.0])
def test_where_all_items_tie_all_are_scored_and_the_first_ids_are_best(bias: float) -> None:
    predictor = served(PrototypeNetwork())
    predictor.meta["head.out.bias"] = torch.tensor(bias)
    predictor.items = predictor.items._replace(
        vector=torch.zeros(ITEMS, DIM), offset=torch.zeros(ITEMS)
    )
    retriever = Retriever(predictor, ANY, BY_ID)
    asked = supports(1)
    assert retriever.shortlisted(asked, 5, exclude_seen=True) == {}
    assert (
        retriever.best(asked, 5, exclude_seen=True)[0].rows.tolist() == BY_ID.argsort()[:5].tolist()
    )


def test_a_request_that_goes_wrong_is_ranked_by_id_and_its_neighbours_as_ever() -> None:
    predictor, asked = served(PrototypeNetwork()), supports(4)
    wrong = asked._replace(label=asked.label.clone())
    wrong.label[2, 0] = math.nan
    retriever = Retriever(predictor, ANY, BY_ID)
    assert list(retriever.shortlisted(wrong, 10, exclude_seen=True)) == [0, 1, 3]
    found = retriever.best(wrong, 10, exclude_seen=True)
    right = retriever.best(asked, 10, exclude_seen=True)
    check([found[task] for task in (0, 1, 3)], [right[task] for task in (0, 1, 3)])
    assert [one.finite for one in found] == [True, True, False, True]
    assert bool(found[2].scores.isnan().all())
    seen = set(asked.item[2, :2].tolist())
    by_id = [row for row in BY_ID.argsort().tolist() if row not in seen]
    assert found[2].rows.tolist() == by_id[:10]


def test_what_is_not_a_heads_score_is_scored_whole() -> None:
    asked = supports(3, "implicit")
    members = [served(BayesianHead(), "implicit"), served(PrototypeNetwork(), "implicit")]
    blend = Blend(members, torch.tensor([[0.3, 0.7]]), torch.tensor([0]), "implicit")
    rest = [served(one, "implicit") for one in (MatchingNetwork(), PairAttention())]
    for predictor in (blend, *rest):
        retriever = Retriever(predictor, ANY, BY_ID)
        assert retriever.approximate is None
        check(retriever.best(asked, 10, exclude_seen=True), expected(predictor, asked, 10, ANY))


def test_a_small_catalogue_is_scored_whole() -> None:
    allowed = torch.arange(ITEMS) < retrieval.SMALL
    assert Retriever(served(BayesianHead()), allowed, BY_ID).approximate is None
