"""Two stages: the whole catalogue, some items and the best ones all tell the same order."""

from typing import NamedTuple, cast

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.features import features, item_knowledge
from metarec_ray.algorithms.second_stage.rankers.inputs import scale_of
from metarec_ray.algorithms.second_stage.rankers.networks import Networks, initial_network
from metarec_ray.algorithms.second_stage.reranker import Reranker, inputs_of, parameters
from metarec_ray.config.judging import SecondStage
from metarec_ray.core.batch import Features, Params
from metarec_ray.inference import two_stage as module
from metarec_ray.inference.predictor import Blend, Predictor, as_blend
from metarec_ray.inference.retrieval import Best, Retriever
from metarec_ray.inference.supports import Supports
from metarec_ray.inference.two_stage import (
    PREFIX,
    CandidateRetriever,
    Catalogue,
    TwoStage,
    first_stage_model,
    two_stage_of,
)
from tests.unit.small_histories import histories_of

ITEMS, LIST, KS = 50, 12, torch.tensor([0, 1, 3])
LENGTHS = [0, 1, 3, 6, 2]
EVERY = torch.ones(ITEMS, dtype=torch.bool)
SOME = torch.arange(ITEMS) % 4 > 0  # row 0 is not among them
BY_ID = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(9))


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Fake(NamedTuple):
    """A predictor: a score for each item, and more for what is like the support."""

    base: Tensor  # [I]
    pairs: Tensor  # [I, I]
    shares_are_scores: bool = True

    def scores(self, supports: Supports, *, items: Tensor | None = None) -> Tensor:
        told = (self.pairs[supports.item] * supports.mask.unsqueeze(-1)).sum(1)
        whole = self.base + told
        return whole if items is None else whole.gather(1, items)

    def log_share(self, scores: Tensor) -> Tensor:
        return scores

    def stds(self, supports: Supports, items: Tensor) -> None:
        return None

    def adapted(self, supports: Supports) -> int:
        return ITEMS


def fake(seed: int) -> Fake:
    return Fake(drawn(ITEMS, seed=seed), 0.3 * drawn(ITEMS, ITEMS, seed=seed + 100))


def blend_of_two() -> Blend:
    # After one event the first member counts alone.
    weights = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.3, 0.9]])
    return Blend([fake(0), fake(1)], weights, KS, "implicit")


def supports(lengths: list[int] = LENGTHS) -> Supports:
    """Distinct items a task; what padding holds must not matter."""
    tasks, slots = len(lengths), max(1, *lengths)
    generator = torch.Generator().manual_seed(3)
    nothing = torch.zeros(tasks, slots, 0)
    return Supports(
        item=torch.rand(tasks, ITEMS, generator=generator).argsort(1)[:, :slots],
        label=torch.ones(tasks, slots),
        mask=torch.arange(slots) < torch.tensor(lengths).unsqueeze(1),
        time=torch.arange(slots).expand(tasks, -1) * 1_000_000,
        context=Features(nothing.long(), nothing, nothing),
        user=Features(*(c[:, 0] for c in (nothing.long(), nothing, nothing))),
        now=Features(*(c[:, :1] for c in (nothing.long(), nothing, nothing))),
    )


def first_stage(
    first: Predictor | None = None, trained: Tensor = EVERY, *, size: int = LIST
) -> CandidateRetriever:
    blend = blend_of_two() if first is None else as_blend(first, "implicit")
    return CandidateRetriever(blend, "implicit", Catalogue(trained, BY_ID), candidates=size)


def second_params(first: CandidateRetriever, *, helps: bool = True) -> Params:
    """Two networks with an opinion of their own."""
    lists = torch.randint(ITEMS, (9, 15), generator=torch.Generator().manual_seed(0)).tolist()
    knowledge = item_knowledge(histories_of(lists, n_items=ITEMS))
    asked = first.shortlists(supports())
    generator = torch.Generator().manual_seed(5)
    inputs = inputs_of(asked, knowledge, KS)
    nets = list[Params]()
    for _ in range(2):
        net = initial_network(features(knowledge, asked).shape[-1], len(KS), generator)
        nets.append(
            {n: v + 0.2 * torch.randn(v.shape, generator=generator) for n, v in net.items()}
        )
    scale = scale_of(inputs.features, inputs.real)
    return parameters(knowledge, nets, scale, ks=KS, helps=torch.full((3,), helps))


def two(first: CandidateRetriever, *, helps: bool = True) -> TwoStage:
    return TwoStage(first, Reranker(Networks(), second_params(first, helps=helps)))


def met(asked: Supports, task: int) -> set[int]:
    return set(asked.item[task, asked.mask[task]].tolist())


def in_order_by_hand(scores: Tensor, rows: list[int]) -> list[int]:
    return sorted(rows, key=lambda row: (-float(scores[row]), int(BY_ID[row])))


def listed_by_hand(first: CandidateRetriever, asked: Supports, task: int) -> list[int]:
    """The best items of the first stage that may be ranked and were not met."""
    scores = first.blend.scores(asked)[task]
    rows = first.catalogue.trained.nonzero().flatten().tolist()
    rows = [row for row in rows if row not in met(asked, task)]
    return in_order_by_hand(scores, rows)[: first.candidates]


def check(found: Best, rows: list[int], scores: Tensor) -> None:
    assert found.rows.tolist() == rows
    torch.testing.assert_close(found.scores, scores[found.rows], rtol=1e-4, atol=1e-4)
    assert found.finite


@pytest.mark.parametrize("trained", [EVERY, SOME])
@pytest.mark.parametrize("alone", [True, False])
def test_shortlists_are_the_best_of_the_first_stage(alone: bool, trained: Tensor) -> None:
    first = first_stage(fake(0) if alone else None, trained)
    asked = supports()
    found = first.shortlists(asked)
    scores = first.blend.scores(asked)
    parts = torch.stack([member.scores(asked) for member in first.blend.members])
    assert bool(found.real.all())
    for task in range(len(LENGTHS)):
        assert found.item[task].tolist() == listed_by_hand(first, asked, task)
    torch.testing.assert_close(found.score, scores.gather(1, found.item))
    for part, own in zip(found.parts, parts, strict=True):
        torch.testing.assert_close(part, own.gather(1, found.item))
    assert torch.equal(found.support, asked.item)
    assert found.events().tolist() == LENGTHS


def test_shortlists_are_of_the_allowed_items_if_some_are_told() -> None:
    first, asked = first_stage(trained=SOME), supports()
    allowed = drawn(len(LENGTHS), ITEMS, seed=8) > 0.8
    found = first.shortlists(asked, allowed)
    scores = first.blend.scores(asked)
    for task in range(len(LENGTHS)):
        rows = set(allowed[task].nonzero().flatten().tolist()) - met(asked, task)
        right = in_order_by_hand(scores[task], sorted(rows))[:LIST]
        assert found.item[task, found.real[task]].tolist() == right
        assert found.real[task].tolist() == [True] * len(right) + [False] * (LIST - len(right))


SETTINGS = [(EVERY, LIST), (SOME, LIST), (torch.arange(ITEMS) < 9, LIST), (SOME, 100)]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("trained", "size"), SETTINGS)
def test_shortlists_by_retrieval_are_those_of_the_whole_catalogue(
    alone: bool, trained: Tensor, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, asked = first_stage(fake(0) if alone else None, trained, size=size), supports()
    whole = first.shortlists(asked)
    monkeypatch.setattr(module, "WHOLE", 0)
    found = first.shortlists(asked)
    assert torch.equal(found.real, whole.real)
    real = whole.real
    assert torch.equal(found.item[real], whole.item[real])
    torch.testing.assert_close(found.score[real], whole.score[real])
    torch.testing.assert_close(found.parts[:, real], whole.parts[:, real])
    for name in ("support", "mask", "time"):
        assert torch.equal(getattr(found, name), getattr(whole, name))


# Row 0 is among the items in one of them, and lists are shorter than asked for in the last two.
@pytest.mark.parametrize(
    ("trained", "size"),
    [
        (EVERY, LIST),
        (SOME, LIST),
        (SOME, 100),
        (torch.arange(ITEMS) < 9, LIST),
    ],
)
def test_scores_by_retrieval_are_those_of_the_whole_catalogue(
    trained: Tensor, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked = two(first_stage(trained=trained, size=size)), supports()
    whole, best = model.scores(asked), model.best(asked, 5, exclude_seen=True)
    monkeypatch.setattr(module, "WHOLE", 0)
    torch.testing.assert_close(model.scores(asked), whole, rtol=1e-4, atol=1e-4)
    for found, right in zip(model.best(asked, 5, exclude_seen=True), best, strict=True):
        assert found.rows.tolist() == right.rows.tolist()
        torch.testing.assert_close(found.scores, right.scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("helps", [True, False])
@pytest.mark.parametrize(("trained", "size"), SETTINGS)
def test_the_catalogue_some_items_and_the_best_agree(
    trained: Tensor, size: int, helps: bool
) -> None:
    model, asked = two(first_stage(trained=trained, size=size), helps=helps), supports()
    whole = model.scores(asked)
    assert whole.shape == (len(LENGTHS), ITEMS)
    assert bool(whole.isfinite().all())
    # More than are listed, in any order, some of them twice.
    items = torch.randint(ITEMS, (len(LENGTHS), 70), generator=torch.Generator().manual_seed(1))
    some = model.scores(asked, items=items)
    torch.testing.assert_close(some, whole.gather(1, items), rtol=1e-4, atol=1e-4)
    rows = trained.nonzero().flatten().tolist()
    for k in (1, 5, size, ITEMS):
        for task, best in enumerate(model.best(asked, k, exclude_seen=True)):
            mine = [row for row in rows if row not in met(asked, task)]
            check(best, in_order_by_hand(whole[task], mine)[:k], whole[task])


@pytest.mark.parametrize(("trained", "size"), SETTINGS)
def test_what_is_listed_is_above_the_rest_which_keeps_its_order(trained: Tensor, size: int) -> None:
    first, asked = first_stage(trained=trained, size=size), supports()
    model = two(first)
    whole, before = model.scores(asked), first.blend.scores(asked)
    for task in range(len(LENGTHS)):
        listed = listed_by_hand(first, asked, task)
        rest = [row for row in range(ITEMS) if row not in listed]
        assert met(asked, task) <= set(rest)
        assert float(whole[task, listed].min()) > float(whole[task, rest].max())
        assert in_order_by_hand(whole[task], rest) == in_order_by_hand(before[task], rest)


def test_the_second_stage_orders_by_its_own_scores() -> None:
    first, asked = first_stage(), supports()
    model = two(first)
    lists = first.shortlists(asked)
    ordered = model.reranker.scores(lists)
    torch.testing.assert_close(
        model.scores(asked).gather(1, lists.item), ordered, rtol=1e-4, atol=1e-4
    )
    changed = [
        best.rows.tolist() != row.tolist()[:5]
        for best, row in zip(model.best(asked, 5, exclude_seen=True), lists.item, strict=True)
    ]
    assert all(changed)


@pytest.mark.parametrize("k", [4, LIST, 30])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_a_second_stage_that_does_not_help_leaves_the_best_of_the_first(
    k: int, exclude_seen: bool
) -> None:
    first, asked = first_stage(trained=SOME), supports()
    found = two(first, helps=False).best(asked, k, exclude_seen=exclude_seen)
    if exclude_seen:
        right = Retriever(first.blend, SOME, BY_ID).best(asked, k, exclude_seen=True)
        assert [one.rows.tolist() for one in found] == [one.rows.tolist() for one in right]
    assert all(one.finite for one in found)


def test_items_of_the_support_come_after_the_list_where_they_are_not_left_out() -> None:
    first, asked = first_stage(trained=SOME), supports()
    model = two(first)
    whole = model.scores(asked)
    rows = SOME.nonzero().flatten().tolist()
    for k in (3, ITEMS):
        for task, best in enumerate(model.best(asked, k, exclude_seen=False)):
            check(best, in_order_by_hand(whole[task], rows)[:k], whole[task])
    for task, best in enumerate(model.best(asked, ITEMS, exclude_seen=False)):
        assert len(best.rows) == len(rows)
        assert not met(asked, task) & set(best.rows[:LIST].tolist())


def test_ties_are_in_the_order_of_ids() -> None:
    flat = Fake(torch.zeros(ITEMS), torch.zeros(ITEMS, ITEMS))
    first, asked = first_stage(flat), supports([0, 0])
    for best in two(first, helps=False).best(asked, 8, exclude_seen=True):
        assert best.rows.tolist() == BY_ID.argsort()[:8].tolist()


def test_requests_side_by_side_are_a_loop_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = two(first_stage(trained=SOME)), supports()
    items = torch.arange(20).repeat(len(LENGTHS), 1)
    whole, some = model.scores(asked), model.scores(asked, items=items)
    monkeypatch.setattr(module, "CHUNK", 2)
    torch.testing.assert_close(model.scores(asked), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.scores(asked, items=items), some, rtol=1e-4, atol=1e-4)
    for task in range(len(LENGTHS)):
        alone = model.scores(asked.at(torch.tensor([task])))[0]
        torch.testing.assert_close(alone, whole[task], rtol=1e-4, atol=1e-4)


def wrong(rows: slice | int) -> Fake:
    """A first stage that has no number for some items after an event on item 7."""
    one = fake(0)
    one.pairs[7, rows] = torch.nan
    return one


def one_goes_wrong() -> Supports:
    asked = supports([1, 1])
    asked.item[:, 0] = torch.tensor([7, 8])
    return asked


@pytest.mark.parametrize("rows", [slice(None), 20])
def test_what_is_no_number_in_the_first_stage_is_none_in_the_scores(rows: slice | int) -> None:
    first = first_stage(wrong(rows))
    model = TwoStage(first, Reranker(Networks(), second_params(first_stage(fake(0)))))
    found = model.scores(one_goes_wrong())
    assert bool(found[0].isnan().any())
    assert bool(found[1].isfinite().all())


@pytest.mark.parametrize("whole", [0, 20_000])
@pytest.mark.parametrize("rows", [slice(None), 20])
def test_what_is_no_number_in_the_first_stage_is_reported_with_the_best(
    rows: slice | int, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WHOLE", whole)
    first = first_stage(wrong(rows))
    model = TwoStage(first, Reranker(Networks(), second_params(first_stage(fake(0)))))
    found = model.best(one_goes_wrong(), 5, exclude_seen=True)
    assert [one.finite for one in found] == [False, True]


@pytest.mark.parametrize("k", [5, 30])
def test_what_is_no_number_in_the_second_stage_is_reported(k: int) -> None:
    first, asked = first_stage(), supports([0, 1])
    params = second_params(first)
    params["fits.first_stage_weight"][:, 1] = torch.nan
    found = TwoStage(first, Reranker(Networks(), params)).best(asked, k, exclude_seen=True)
    assert [one.finite for one in found] == [True, False]


def test_who_has_met_everything_is_shown_nothing() -> None:
    asked = supports([3, 0])
    trained = torch.zeros(ITEMS, dtype=torch.bool)
    trained[asked.item[0, :3]] = True
    found = two(first_stage(trained=trained, size=10)).best(asked, 2, exclude_seen=True)
    assert [len(one.rows) for one in found] == [0, 2]
    assert all(one.finite for one in found)


def test_who_has_met_everything_has_scores_of_the_first_stage_s_order() -> None:
    asked = supports([3, 0])
    trained = torch.zeros(ITEMS, dtype=torch.bool)
    trained[asked.item[0, :3]] = True
    assert bool(two(first_stage(trained=trained, size=10)).scores(asked).isfinite().all())


def test_items_of_the_support_that_are_far_above_the_list_keep_their_order() -> None:
    far = Fake(torch.arange(ITEMS) * 2.0, torch.zeros(ITEMS, ITEMS))
    first, asked = first_stage(far), supports([3])
    asked.item[0, :3] = torch.tensor([49, 47, 48])
    (best,) = two(first).best(asked, ITEMS, exclude_seen=False)
    seen = [row for row in best.rows.tolist() if row >= 47]
    assert seen == [49, 48, 47]


def test_the_same_items_for_all_tasks_need_no_copy() -> None:
    model, asked = two(first_stage()), supports()
    items = torch.tensor([[3, 1, 4]]).expand(len(LENGTHS), -1)
    found = model.scores(asked, items=items)
    torch.testing.assert_close(found, model.scores(asked)[:, items[0]], rtol=1e-4, atol=1e-4)


def test_two_stages_are_those_of_one_checkpoint() -> None:
    first, asked = first_stage(), supports()
    own = second_params(first)
    model = {"member.weight": torch.ones(2)} | {PREFIX + name: p for name, p in own.items()}
    assert first_stage_model(model).keys() == {"member.weight"}
    catalogue = Catalogue(EVERY, BY_ID)
    found = two_stage_of(blend_of_two(), model, "implicit", catalogue, SecondStage(candidates=LIST))
    assert torch.equal(
        found.scores(asked), TwoStage(first, Reranker(Networks(), own)).scores(asked)
    )
    assert found.shares_are_scores
    assert torch.equal(found.log_share(torch.ones(1, 3)), torch.ones(1, 3))
    assert found.adapted(asked) == first.blend.adapted(asked)


def test_the_parts_of_a_blend_add_up_to_its_scores() -> None:
    blend, asked = blend_of_two(), supports()
    parts = blend.parts(asked)
    assert parts.shape == (2, len(LENGTHS), ITEMS)
    for part, member in zip(parts, blend.members, strict=True):
        assert torch.equal(part, member.scores(asked))
    total = blend.total(parts, asked)
    assert torch.equal(total, blend.scores(asked))
    for task, row in enumerate([0, 1, 2, 2, 1]):
        right = sum(blend.weights[row, m] * parts[m, task] for m in range(2))
        torch.testing.assert_close(total[task], right)
    items = torch.tensor([[3, 3, 8]]).repeat(len(LENGTHS), 1)
    some = blend.parts(asked, items=items)
    assert torch.equal(some, parts[:, :, items[0]])
    torch.testing.assert_close(blend.total(some, asked), total[:, items[0]])


def test_a_part_that_does_not_count_says_nothing_not_even_nan() -> None:
    asked = supports([0, 1])
    blend = blend_of_two()
    blend.members = [fake(0), Fake(torch.full((ITEMS,), torch.nan), torch.zeros(ITEMS, ITEMS))]
    total = blend.total(blend.parts(asked), asked)
    assert bool(total[0].isnan().all())
    assert torch.equal(total[1], fake(0).scores(asked)[1])


def test_a_member_that_does_not_count_says_nothing_to_the_second_stage() -> None:
    asked, blend = supports([1]), blend_of_two()
    params = second_params(first_stage())
    blend.members = [fake(0), Fake(torch.full((ITEMS,), torch.nan), torch.zeros(ITEMS, ITEMS))]
    (best,) = TwoStage(first_stage(blend), Reranker(Networks(), params)).best(
        asked, 5, exclude_seen=True
    )
    assert best.finite


def test_a_blend_of_one_is_its_member() -> None:
    one, asked = fake(0), supports()
    blend = as_blend(one, "implicit")
    assert torch.equal(blend.scores(asked), one.scores(asked))
    assert torch.equal(blend.total(blend.parts(asked), asked), one.scores(asked))
    assert as_blend(blend, "explicit") is blend


def test_without_a_support_nothing_is_met_and_the_list_is_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, nobody = two(first_stage()), supports([0, 0])
    whole = model.best(nobody, 5, exclude_seen=True)
    monkeypatch.setattr(model, "scores", None)  # what scores the whole catalogue
    for one, other in zip(model.best(nobody, 5, exclude_seen=False), whole, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.scores, other.scores)


@pytest.mark.parametrize("sampled", [False, True])
def test_scores_adapt_every_member_once(sampled: bool) -> None:
    asked, calls = supports(), list[int]()

    class Counted(Fake):
        def scores(self, supports: Supports, *, items: Tensor | None = None) -> Tensor:
            calls.append(len(supports.item))
            return super().scores(supports, items=items)

    blend = blend_of_two()
    members = [Counted(*cast(Fake, member)) for member in blend.members]
    both = two(first_stage(Blend(members, blend.weights, KS, "implicit")))
    calls.clear()
    items = torch.arange(5).expand(len(LENGTHS), -1) if sampled else None
    found = both.scores(asked, items=items)
    assert calls == [len(LENGTHS)] * 2
    torch.testing.assert_close(found, two(first_stage()).scores(asked, items=items))
