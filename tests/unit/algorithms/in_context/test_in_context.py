"""What every in-context learner may see and may not, and that its gradients are right."""

import pytest
import torch
from torch.func import vmap

from tests.unit.algorithms.in_context.small import (
    CANDIDATES,
    DIM,
    each_feedback,
    each_learner,
    each_sequence,
    objective,
    parameters,
    problem,
    query_loss,
    quiet,
    random,
    scores,
    support_of,
)


@each_learner
@each_feedback
def test_padding_changes_nothing(learner, feedback):
    meta = parameters(learner)
    tight = support_of([1, 4], width=2, feedback=feedback)
    loose = support_of([1, 4], width=4, feedback=feedback)
    loose = loose._replace(context=torch.cat([tight.context, random(2, DIM, seed=9)]))
    torch.testing.assert_close(
        scores(learner, meta, loose, feedback), scores(learner, meta, tight, feedback)
    )


@each_learner
@each_feedback
def test_an_empty_support_is_scored_by_the_prior(learner, feedback):
    meta = parameters(learner)
    found = scores(learner, meta, support_of([], width=3), feedback)
    assert found.isfinite().all()
    torch.testing.assert_close(found, scores(learner, meta, support_of([], width=1), feedback))
    if learner.name == "pair_attention":
        torch.testing.assert_close(found, problem(feedback).predict(meta, CANDIDATES))


@each_sequence
@each_feedback
def test_an_adapted_user_is_the_prefix_that_training_saw(learner, feedback):
    learner = quiet(learner)
    meta, scored = parameters(learner), []
    whole = support_of([1, 4, 6], width=4, feedback=feedback)
    objective(learner, meta, whole, feedback, scored=scored)
    for k, seen in zip([0, 1, 3, 3], scored, strict=True):  # 3 is a prefix and all that is real
        part = whole._replace(mask=torch.arange(4) < k)
        torch.testing.assert_close(seen, scores(learner, meta, part, feedback))


@each_sequence
def test_later_events_do_not_change_an_earlier_prefix(learner):
    learner, before, after = quiet(learner), [], []
    meta = parameters(learner)
    objective(learner, meta, support_of([1, 4, 6, 8], width=4), "implicit", scored=before)
    objective(learner, meta, support_of([1, 4, 6, 3], width=4), "implicit", scored=after)
    for k in range(3):  # prefixes 0, 1 and 3
        torch.testing.assert_close(before[k], after[k])
    assert not torch.allclose(before[3], after[3])


@each_sequence
def test_a_prefix_that_a_short_support_lacks_does_not_count(learner):
    learner = quiet(learner).model_copy(update={"next_weight": 0.0})
    meta, scored = parameters(learner), []
    found = objective(learner, meta, support_of([1, 4], width=4), "implicit", scored=scored)
    value = query_loss("implicit")
    # The support holds 2 events: prefixes 0 and 1 and the whole of it, not prefix 3.
    zero, one, _, whole = (value(lambda _, s=s: s) for s in scored)
    torch.testing.assert_close(found, (zero + one + whole) / 3)


@each_sequence
def test_predicting_the_next_event_is_a_part_of_the_objective(learner):
    learner = quiet(learner)
    meta, support = parameters(learner), support_of([1, 4], width=4)
    with_next = objective(learner, meta, support, "implicit")
    without = objective(learner.model_copy(update={"next_weight": 0.0}), meta, support, "implicit")
    asked, expected = problem("implicit", 0.5), []
    ahead = {n.replace(".next.", ".query."): p for n, p in meta.items() if ".query." not in n}
    for k in range(2):  # event k is predicted by the state after k events, with its own output map
        fast = learner.adapt(asked, ahead, support._replace(mask=torch.arange(4) < k))
        only = support._replace(mask=torch.arange(4) == k)
        expected.append(asked.support_loss(meta | fast, only))
    torch.testing.assert_close(with_next - without, (expected[0] + expected[1]) / 2)


@each_learner
@pytest.mark.parametrize("feedback", ["explicit", "binary"])
def test_another_label_gives_other_scores(learner, feedback):
    meta = parameters(learner)
    low = support_of([1, 4], width=2, labels=[1.0, 0.0], feedback=feedback)
    high = support_of([1, 4], width=2, labels=[1.0, 1.0], feedback=feedback)
    assert not torch.allclose(
        scores(learner, meta, low, feedback), scores(learner, meta, high, feedback)
    )


@each_learner
def test_positives_carry_no_label(learner):
    meta = parameters(learner)
    ones = support_of([1, 4], width=2, labels=[1.0, 1.0])
    stars = support_of([1, 4], width=2, labels=[4.0, 5.0])
    torch.testing.assert_close(scores(learner, meta, ones), scores(learner, meta, stars))


@each_learner
def test_nothing_is_random_outside_training(learner):
    meta, support = parameters(learner), support_of([1, 4, 6], width=4)
    state = torch.get_rng_state()
    torch.testing.assert_close(
        scores(learner, meta, support), scores(learner, meta, support), rtol=0, atol=0
    )
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(0)
    one = scores(learner, meta, support, progress=0.5)
    assert not torch.allclose(one, scores(learner, meta, support, progress=0.5))
    torch.manual_seed(0)
    torch.testing.assert_close(one, scores(learner, meta, support, progress=0.5), rtol=0, atol=0)


@each_learner
def test_vmap_hides_other_events_in_every_task(learner):
    learner = learner.model_copy(update={"item_dropout": 0.5})
    meta, support = parameters(learner), support_of([1, 4, 6], width=4)

    def one(shift):
        moved = support._replace(item=support.item + 0 * shift)
        return scores(learner, meta, moved, progress=0.5)

    torch.manual_seed(0)
    tasks = vmap(one, randomness="different")(torch.zeros(4, dtype=torch.float64))
    assert len({tuple(row.tolist()) for row in tasks}) > 1


@each_learner
@each_feedback
def test_the_gradient_is_the_finite_difference(learner, feedback):
    learner = quiet(learner)
    meta = parameters(learner, hidden=(3,))
    # A width above max_events makes readers leave out the oldest event.
    support = support_of([1, 4, 6, 3, 8], width=6, feedback=feedback)

    def value(params):
        return objective(learner, params, support, feedback)

    gradient = torch.func.grad(value)(meta)
    for at, (name, weight) in enumerate(meta.items()):
        direction = random(*weight.shape, seed=at)
        step = 1e-5
        up = value(meta | {name: weight + step * direction})
        down = value(meta | {name: weight - step * direction})
        found = (gradient[name] * direction).sum()
        torch.testing.assert_close(
            found,
            (up - down) / (2 * step),
            rtol=1e-6,
            atol=1e-8,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@each_sequence
def test_what_is_older_than_max_events_does_not_count(learner):
    meta = parameters(learner)
    long = support_of([2, 1, 4, 6, 8], width=5)
    other = support_of([7, 1, 4, 6, 8], width=5)
    torch.testing.assert_close(scores(learner, meta, long), scores(learner, meta, other))


@each_sequence
@pytest.mark.parametrize(("events", "differ"), [([1, 4, 6, 8], True), ([2, 1, 4, 6, 8], False)])
def test_a_support_that_was_cut_begins_no_history(learner, events, differ):
    meta, given = parameters(learner), support_of(events, width=6)
    found = []
    for begins in (True, False):
        asked = problem("implicit", begins=begins)
        found.append(learner.score(asked, meta, learner.adapt(asked, meta, given), CANDIDATES))
    assert torch.allclose(*found) is not differ


@each_sequence
def test_what_is_reported_is_the_query_loss_after_the_whole_support(learner):
    learner, asked = quiet(learner), problem("implicit", 0.5)
    meta, given = parameters(learner), support_of([1, 4], width=4)
    _, reported = learner.objective(asked, meta, given, given, query_loss("implicit"))
    fast = learner.adapt(asked, meta, given)
    after = query_loss("implicit")(lambda events: learner.score(asked, meta, fast, events))
    torch.testing.assert_close(reported, after)


@each_learner
def test_a_support_may_be_zero_events_wide(learner):
    meta = parameters(learner)
    torch.testing.assert_close(
        scores(learner, meta, support_of([], width=0)),
        scores(learner, meta, support_of([], width=2)),
    )


@each_sequence
def test_an_item_that_was_met_before_is_neither_predicted_nor_a_rival(learner):
    learner, meta = quiet(learner), parameters(learner)
    alone = learner.model_copy(update={"next_weight": 0.0})

    def ahead(items, moved=None):
        """Return what predicting each next event adds to the objective."""
        asked, support = problem("implicit", 0.5, moved=moved), support_of(items, width=4)
        whole, without = (
            one.objective(asked, meta, support, support, query_loss("implicit"))[0]
            for one in (learner, alone)
        )
        return whole - without

    torch.testing.assert_close(ahead([5, 3, 5]), ahead([5, 3]))
    torch.testing.assert_close(ahead([5, 3], moved=5), ahead([5, 3]))
    assert abs(ahead([5, 3], moved=2) - ahead([5, 3])) > 1e-3
