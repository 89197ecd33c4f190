"""The best items: whatever is scored nearly, the ranking is float32's."""

import math

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
from metarec_ray.algorithms.metric import MatchingNetwork, PrototypeNetwork
from metarec_ray.algorithms.rivals.als import IAls
from metarec_ray.algorithms.rivals.two_tower import TwoTower
from metarec_ray.data.settings import Feedback
from metarec_ray.inference import catalogue_scores, retrieval
from metarec_ray.inference.catalogue_scores import OfHead
from metarec_ray.inference.predictor import Blend, Predictor
from metarec_ray.inference.retrieval import Best, Retriever
from metarec_ray.inference.single import Fitted
from metarec_ray.inference.supports import Supports
from metarec_ray.models.bounded_catalogue import BoundedCatalogue
from tests.unit.inference.served import (
    ANY,
    BY_ID,
    DIM,
    ITEMS,
    clock,
    drawn,
    served,
    supports,
)


def expected(
    predictor: Predictor, asked: Supports, k: int, allowed: Tensor, *, seen_too: bool = False
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
    assert bounded(retriever).low == low
    assert len(retriever.shortlisted(asked, 10, exclude_seen=True)) == 3


def bounded(retriever: Retriever) -> BoundedCatalogue:
    assert isinstance(retriever.scorer, OfHead)
    return retriever.scorer.bounded


def test_a_machine_that_cannot_multiply_integers_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_scores, "adds_up", lambda width: False)
    retriever = Retriever(served(BayesianHead()), ANY, BY_ID, clock=clock(low=True))
    assert not bounded(retriever).low


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


def factors() -> Fitted:
    """iALS whose users know the items they met."""
    item = drawn(ITEMS, 4, seed=6)
    table = {"item": item, "gram": item.T @ item, "count": drawn(ITEMS, seed=7).abs()}
    return Fitted(IAls(factors=4), table, "implicit", n_items=ITEMS, user_tokens=4)


BLENDS: list[tuple[Feedback, list[Predictor]]] = [
    ("implicit", [served(BayesianHead(), "implicit"), factors()]),
    ("implicit", [served(PrototypeNetwork(), "implicit", (6,)), served(Recurrent(), "implicit")]),
    ("implicit", [served(MatchingNetwork(), "implicit"), factors()]),
    ("explicit", [served(BayesianHead()), served(CausalTransformer())]),
]


@pytest.mark.parametrize(("feedback", "members"), BLENDS)
def test_the_best_of_a_blend_are_those_of_its_exact_sum(
    feedback: Feedback, members: list[Predictor]
) -> None:
    # Without an event, after one, and after two, which one member alone judges.
    weights, sizes = torch.tensor([[0.3, 0.7], [2.0, 0.5], [0.0, 1.5]]), torch.arange(3)
    blend, asked = Blend(members, weights, sizes, feedback), supports(4, feedback)
    retriever = Retriever(blend, ANY, BY_ID)
    check(retriever.best(asked, 10, exclude_seen=True), expected(blend, asked, 10, ANY))
    assert len(retriever.shortlisted(asked, 10, exclude_seen=True)) == 4
    some = torch.tensor([[7, 3], [3, 8], [9, 3], [1, 2]])
    torch.testing.assert_close(blend.scores(asked, items=some), blend.scores(asked).gather(1, some))


def test_a_blend_of_heads_adds_log_probabilities_up_to_a_constant() -> None:
    members = [served(one, "implicit") for one in (BayesianHead(), Recurrent())]
    blend, asked = Blend(members, torch.ones(1, 2), torch.zeros(1), "implicit"), supports(2)
    shares = sum(torch.log_softmax(member.scores(asked), 1) for member in members)
    off = blend.scores(asked) - shares
    torch.testing.assert_close(off, off[:, :1].expand_as(off))


def test_a_blend_in_which_nothing_has_weight_ranks_by_id() -> None:
    blend = Blend([factors()], torch.zeros(1, 1), torch.zeros(1), "implicit")
    (found,) = Retriever(blend, ANY, BY_ID).best(supports(1), 3, exclude_seen=True)
    assert found.rows.tolist() == BY_ID.argsort()[:3].tolist()


def test_a_negative_weight_is_no_weight() -> None:
    with pytest.raises(AssertionError):
        Blend([factors()], torch.tensor([[-0.1]]), torch.tensor([0]), "implicit")


def test_what_is_not_a_heads_score_is_scored_whole() -> None:
    asked = supports(3, "implicit")
    for predictor in (served(MatchingNetwork(), "implicit"), served(PairAttention(), "implicit")):
        retriever = Retriever(predictor, ANY, BY_ID)
        check(retriever.best(asked, 10, exclude_seen=True), expected(predictor, asked, 10, ANY))


def test_a_small_catalogue_is_scored_whole() -> None:
    allowed = torch.arange(ITEMS) < retrieval.SMALL
    assert Retriever(served(BayesianHead()), allowed, BY_ID).scorer is None
