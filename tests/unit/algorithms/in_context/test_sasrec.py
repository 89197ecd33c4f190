"""The next item at every position: what the network sees, its loss, and what it is for."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import cross_entropy

from metarec_ray.algorithms.base import Fitting
from metarec_ray.algorithms.in_context.next_items import (
    Windows,
    class_loss,
    dropped,
    sampled_classes,
)
from metarec_ray.algorithms.in_context.sasrec import SasRec
from metarec_ray.algorithms.problem import no_problem
from metarec_ray.core.batch import Params
from tests.unit.algorithms.plain_events import catalogue_of, index_only
from tests.unit.small_histories import histories_of

SMALL = SasRec(max_events=4, dim=8, epochs=2, batch=4)
# Item after item in a ring: what follows is known from the last item alone.
RING = histories_of([[(user + n) % 7 for n in range(9)] for user in range(42)], n_items=7)


def after(learner: SasRec, meta: Params, *items: int) -> Tensor:
    index = torch.tensor(items, dtype=torch.int64)
    given = index_only(index, torch.ones(len(items)), torch.ones(len(items), dtype=torch.bool))
    problem = no_problem("implicit")
    fast = learner.adapt(problem, meta, given)
    return learner.score(problem, meta, fast, catalogue_of(len(meta["item"])))


def test_it_learns_what_follows_what() -> None:
    learner = SasRec(max_events=4, dim=16, epochs=12, batch=8, learning_rate=0.02)
    meta = learner.fit(RING)
    for item in range(7):
        assert after(learner, meta, (item - 1) % 7, item).argmax() == (item + 1) % 7
    # Longer than anything it learned from: the newest events count.
    assert after(learner, meta, *range(7), *range(7), 0, 1, 2).argmax() == 3


def test_the_state_of_an_empty_support_is_the_first_items_share() -> None:
    log = histories_of([[0, 3]] * 30 + [[1, 3]] * 10 + [[2, 3]] * 10, n_items=4)
    learner = SasRec(max_events=4, dim=8, epochs=40, batch=10, learning_rate=0.02, dropout=0.0)
    share = after(learner, learner.fit(log)).softmax(0)
    assert share.tolist() == pytest.approx([0.6, 0.2, 0.2, 0.0], abs=0.05)


def test_a_state_depends_on_the_newest_events_and_their_order_alone() -> None:
    meta = SMALL.fit(RING)
    assert torch.allclose(after(SMALL, meta, 6, 5, 0, 1, 2, 3), after(SMALL, meta, 2, 0, 1, 2, 3))
    assert not torch.allclose(after(SMALL, meta, 0, 1, 2), after(SMALL, meta, 1, 0, 2))


def test_no_position_sees_what_comes_later() -> None:
    meta = SMALL.fit(RING)
    begins = torch.tensor([True])
    for items in ([0, 1, 2, 3], [0, 1, 5, 6]):
        tokens = SMALL._tokens(meta, torch.tensor([items]), begins)
        states = SMALL._states(meta, tokens)
        for n in range(3):
            short = SMALL._states(meta, tokens[:, : n + 1])
            assert torch.allclose(states[:, : n + 1], short, atol=1e-6)


def test_the_seed_decides_everything_and_leaves_the_generator_of_others_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, same, other = (SMALL.fit(RING, Fitting(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["item"], other["item"])


def test_progress_is_told_within_an_epoch() -> None:
    lines: list[str] = []
    log = histories_of([[0, 1]] * 60, n_items=2)
    learner = SMALL.model_copy(update={"batch": 1})
    learner.fit(log, Fitting(progress=lines.append))
    steps = [line.rpartition(" loss ")[0] for line in lines]
    assert steps == [f"sasrec epoch {e}/2 step {s}/60" for e in (1, 2) for s in (50, 60)]


def test_a_dimension_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValidationError, match="multiple of heads, got 9 and 2"):
        SasRec(dim=9)


def test_a_window_is_the_newest_events_and_every_history_is_in_one_batch() -> None:
    lists = [[0], [], [1, 2, 3, 4, 5], [6, 0, 1]]
    windows = Windows.of(histories_of(lists, n_items=7), 3)
    assert windows.steps(2) == 2
    found = {}
    for batch in windows.batches(2, torch.Generator().manual_seed(0)):
        for item, mask, begins in zip(*batch, strict=True):
            found[tuple(item[mask].tolist())] = bool(begins)
            assert not item[~mask].any()
    assert found == {(0,): True, (3, 4, 5): False, (6, 0, 1): True}
    assert windows.share.tolist() == pytest.approx([2 / 9, 2 / 9, *[1 / 9] * 5])


@pytest.mark.parametrize("rows", [5, 700])
def test_the_loss_and_its_gradients_are_those_of_cross_entropy(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((rows, 3), (11, 3), (11,))
    states, table, bias = given = [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]
    target = torch.randint(11, (rows,), generator=generator)
    found = class_loss(states, table, bias, target)
    expected = cross_entropy(states @ table.T + bias, target)
    assert torch.allclose(found, expected)
    gradients = (torch.autograd.grad(loss, given) for loss in (3 * found, 3 * expected))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other)


def test_a_share_of_entries_is_dropped_and_the_mean_stays() -> None:
    generator = torch.Generator().manual_seed(0)
    found = dropped(torch.ones(333, 101), 0.25, generator)
    assert found.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (found == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    for axis in (0, 1):  # neither rows nor columns are dropped together
        spread = (found == 0).float().mean(axis).std().item()
        size = found.shape[axis]
        assert spread == pytest.approx((0.25 * 0.75 / size) ** 0.5, rel=0.3)
    assert torch.equal(dropped(found, 0.0, generator), found)


def test_a_sample_stands_for_the_catalogue() -> None:
    # The share of draws in which an item is among the classes is what its score is corrected by.
    generator = torch.Generator().manual_seed(0)
    share = torch.tensor([0.5, 0.3, 0.2, *[0.0] * 17])
    met = torch.zeros(20)
    told = torch.full((20,), torch.nan)
    draws = 1500
    for _ in range(draws):
        target = torch.multinomial(share, 2, replacement=True, generator=generator)
        items, log_share = sampled_classes(target, share, 5, generator)
        assert torch.isin(target, items).all()
        met[items] += 1
        told[items] = log_share
    assert torch.allclose(met / draws, told.exp(), atol=0.03)


def test_a_large_catalogue_is_learned_from_samples() -> None:
    learner = SasRec(
        max_events=4, dim=16, epochs=16, batch=8, learning_rate=0.02, full_items=5, sample=4
    )
    meta = learner.fit(RING)
    hits = [after(learner, meta, item).argmax() == (item + 1) % 7 for item in range(7)]
    assert sum(hits) >= 6
