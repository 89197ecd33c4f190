"""What a second stage is told: the same columns of any list, and blind to padding."""

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.features import features, item_knowledge
from metarec_ray.algorithms.second_stage.popularity import popularity_as_of
from metarec_ray.algorithms.second_stage.shortlist import Shortlist
from metarec_ray.algorithms.second_stage.transitions import association
from metarec_ray.core.batch import DAY, Features, FieldSpan, SideInformation
from metarec_ray.core.histories import Histories
from tests.unit.algorithms.second_stage.one_task import of_task
from tests.unit.small_histories import histories_of

ITEMS, ENTITIES, SECOND = 30, 12, 1_000_000
MEMBERS = 3


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def side(n: int, *, seed: int) -> SideInformation:
    """A category of four values, one of them unknown, and a number."""
    token = torch.randint(1, 5, (n, 1), generator=torch.Generator().manual_seed(seed))
    known = Features(token, torch.ones(n, 1), drawn(n, 1, seed=seed))
    return SideInformation(
        known, (FieldSpan("kind", True, 1, 5), FieldSpan("size", False, 0, 1)), 5
    )


def log() -> Histories:
    generator = torch.Generator().manual_seed(0)
    lists = torch.randint(ITEMS, (ENTITIES, 14), generator=generator)
    time = torch.randint(50 * DAY, lists.shape, generator=generator).sort(1).values.flatten()
    data = histories_of(lists.tolist(), n_items=ITEMS, time=time, cutoff=51 * DAY)
    return data._replace(users=side(ENTITIES, seed=1), items=side(ITEMS, seed=2))


def asked(
    lengths: list[int], *, size: int = 8, real: int | None = None, slots: int = 6
) -> Shortlist:
    """A list of `size` items, `real` of them, a task; supports of `lengths` in padded slots.

    What padding holds is drawn, too: it must not matter.
    """
    tasks = len(lengths)
    generator = torch.Generator().manual_seed(4)
    # Both are drawn as long as they may be, so that only padding differs.
    item = torch.rand(tasks, ITEMS, generator=generator).argsort(1)[:, :size]
    support = torch.randint(ITEMS, (tasks, 40), generator=generator)[:, :slots]
    parts = drawn(MEMBERS, tasks, ITEMS, seed=5)[..., :size]
    gaps = torch.randint(90 * SECOND, (tasks, 40), generator=generator)[:, :slots]
    return Shortlist(
        item=item,
        real=(torch.arange(size) < (size if real is None else real)).expand(tasks, -1),
        score=parts.sum(0).sort(1, descending=True).values,
        parts=parts,
        support=support,
        mask=torch.arange(slots) < torch.tensor(lengths).unsqueeze(1),
        time=9 * DAY + gaps.cumsum(1),
        user=side(tasks, seed=6).features,
    )


@pytest.mark.parametrize("members", [1, 3])
def test_any_lists_have_the_same_columns(members: int) -> None:
    knowledge = item_knowledge(log())
    kinds = [asked([3]), asked([0, 1, 6], size=2), asked([40], slots=40), asked([0], size=30)]
    found = [features(knowledge, one._replace(parts=one.parts[:members])) for one in kinds]
    assert [one.shape[:2] for one in found] == [one.item.shape for one in kinds]
    # Score and rank of the stage and of several members; popularity; a field and the sum; three
    # newest events in two windows and a position; a field and a number; four of the support.
    assert {one.shape[2] for one in found} == {2 + 2 * MEMBERS * (members > 1) + 5 + 2 + 7 + 3 + 4}
    assert all(bool(one.isfinite().all()) for one in found)


def test_nothing_known_of_users_and_items_leaves_what_events_tell() -> None:
    knowledge = item_knowledge(log().without_features())
    nobody = torch.zeros(2, 0)
    lists = asked([3, 0])._replace(user=Features(nobody.long(), nobody, nobody))
    assert features(knowledge, lists).shape[2] == 2 + 2 * MEMBERS + 5 + 1 + 7 + 4


def test_padding_of_the_support_changes_nothing() -> None:
    knowledge, lengths = item_knowledge(log()), [0, 1, 2, 5]
    short, long = (features(knowledge, asked(lengths, slots=slots)) for slots in (5, 25))
    torch.testing.assert_close(long, short)


def test_padding_of_the_list_changes_nothing() -> None:
    knowledge, lengths = item_knowledge(log()), [0, 1, 5]
    exact = asked(lengths, size=6)
    wider = asked(lengths, size=15, real=6)
    # Scores of padding are high here: they are nobody's.
    score = torch.cat([exact.score, torch.full((3, 9), 50.0)], 1)
    padded = features(knowledge, wider._replace(score=score))
    torch.testing.assert_close(padded[:, :6], features(knowledge, exact))


def test_a_task_does_not_depend_on_its_neighbours() -> None:
    knowledge, lists = item_knowledge(log()), asked([0, 1, 5, 3])
    together = features(knowledge, lists)
    for task in range(4):
        alone = features(knowledge, of_task(lists, task))
        torch.testing.assert_close(alone[0], together[task])


@pytest.mark.parametrize("lengths", [[0, 0], [1, 1], [0, 6]])
def test_few_events_and_no_clock_give_finite_numbers(lengths: list[int]) -> None:
    lists = asked(lengths)
    for one in (lists, lists._replace(time=torch.zeros_like(lists.time))):
        assert bool(features(item_knowledge(log()), one).isfinite().all())
    plain = log()._replace(cutoff=None)
    plain = plain._replace(time=torch.zeros_like(plain.time))
    assert bool(features(item_knowledge(plain), lists).isfinite().all())


def test_an_empty_support_tells_nothing_that_depends_on_it() -> None:
    found = features(item_knowledge(log()), asked([0]))[0]
    members, popular, groups = 2 + 2 * MEMBERS, 5, 2
    assert not found[:, members + popular + groups :].any()


def test_members_tell_how_far_an_item_is_behind_the_best_and_in_which_place() -> None:
    lists = asked([2], size=4)
    score, parts = torch.tensor([[2.0, 1.5, 1.5, -90.0]]), lists.parts.clone()
    parts[1, 0] = torch.tensor([0.0, 3.0, 1.0, 2.0])
    found = features(item_knowledge(log()), lists._replace(score=score, parts=parts))[0]
    torch.testing.assert_close(found[:, 0], torch.tensor([0.0, -0.5, -0.5, -30.0]))
    log_rank = torch.log1p(torch.arange(4.0))
    torch.testing.assert_close(found[:, 1], log_rank)
    second, its_place = 2 + 1, 2 + MEMBERS + 1
    torch.testing.assert_close(found[:, second], torch.tensor([-3.0, 0.0, -2.0, -1.0]))
    torch.testing.assert_close(found[:, its_place], log_rank[torch.tensor([3, 0, 2, 1])])


def test_one_member_alone_is_the_first_stage_and_is_told_once() -> None:
    lists = asked([2])
    one = lists._replace(parts=lists.score.unsqueeze(0))
    assert features(item_knowledge(log()), one).shape[2] == 2 + 5 + 2 + 7 + 3 + 4


def test_the_three_newest_events_tell_what_follows_them() -> None:
    knowledge, lists = item_knowledge(log()), asked([5, 2])
    start = 2 + 2 * MEMBERS + 5 + 2
    found = features(knowledge, lists)[..., start : start + 7]
    own = {n.removeprefix("transitions."): v for n, v in knowledge.items() if "transitions" in n}
    position = knowledge["popularity.position"]
    for task, length in enumerate((5, 2)):
        newest = lists.support[task, :length].flip(0).tolist()
        for place, item in enumerate(lists.item[task].tolist()):
            right = torch.zeros(7)
            for back, event in enumerate(newest[:3]):
                told = association(own, torch.tensor([event]), torch.tensor([item]))[:, 0]
                right[2 * back : 2 * back + 2] = told
            right[6] = position[item] - position[newest[0]]
            torch.testing.assert_close(found[task, place], right)


def test_the_support_tells_how_popular_how_fast_and_how_long_it_was() -> None:
    knowledge, lists = item_knowledge(log()), asked([4], slots=6)
    # A second and more is another moment; the newest came a minute after the one before it.
    time = torch.tensor([[0, SECOND // 2, 2 * SECOND, 62 * SECOND, 9 * DAY, 0]]) + 5 * DAY
    found = features(knowledge, lists._replace(time=time))[0, :, -4:]
    usual = knowledge["popularity.log_count"][lists.support[0, :4]].mean()
    whole, newest = (torch.log(torch.tensor(1 + minutes)) for minutes in (62 / 60, 1.0))
    right = torch.stack([usual, torch.tensor(2.0), whole, newest])
    torch.testing.assert_close(found, right.expand(8, -1))


def test_popularity_of_another_day_takes_the_place_of_the_present_one() -> None:
    data, lists = log(), asked([3, 1])
    knowledge = item_knowledge(data)
    now = popularity_as_of(data, torch.tensor([51 * DAY] * 2), lists.item)
    then = popularity_as_of(data, torch.tensor([20 * DAY, 35 * DAY]), lists.item)
    plain = features(knowledge, lists)
    torch.testing.assert_close(features(knowledge, lists, as_of=now), plain)
    other = features(knowledge, lists, as_of=then)
    changed = (other != plain).any(0).any(0).nonzero().flatten().tolist()
    assert changed == [2 + 2 * MEMBERS + n for n in range(4)]


def test_knowledge_is_named_by_its_source() -> None:
    names = {name.split(".")[0] for name in item_knowledge(log())}
    assert names == {"popularity", "groups", "transitions", "content"}
