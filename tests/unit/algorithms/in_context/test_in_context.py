"""In-context learners: what they may see, what they may not, and that their gradients are right."""

import pytest
import torch
from torch.func import vmap

from metarec_ray.algorithms.in_context.pair_attention import PairAttention
from metarec_ray.algorithms.in_context.recurrent import Recurrent
from metarec_ray.algorithms.in_context.shared import gap_vectors, newest
from metarec_ray.algorithms.in_context.transformer import CausalTransformer
from metarec_ray.algorithms.problem import (
    EncodedItems,
    Support,
    encode_candidates,
    encode_support,
    make_problem,
)
from metarec_ray.core import losses
from metarec_ray.core.parameters import split, values
from metarec_ray.errors import ConfigError
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.towers import Sides, Towers

SEQUENCES = [
    CausalTransformer(heads=2, layers=2, width=5, max_events=4, prefixes=(0, 1, 3)),
    Recurrent(max_events=4, prefixes=(0, 1, 3)),
]
PAIR = PairAttention(heads=2, width=3)
FEEDBACK = ["explicit", "binary", "implicit"]
ITEMS, DIM = 9, 4
each_sequence = pytest.mark.parametrize("learner", SEQUENCES, ids=lambda one: one.name)
each_learner = pytest.mark.parametrize("learner", [*SEQUENCES, PAIR], ids=lambda one: one.name)
each_feedback = pytest.mark.parametrize("feedback", FEEDBACK)


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def quiet(learner):
    """Return the learner with nothing random in it, not even in training."""
    none = {n: 0.0 for n in type(learner).model_fields if n.endswith("_dropout")}
    return learner.model_copy(update=none)


def parameters(learner, hidden=()):
    side = Side(tokens=3, dense=1)
    model = Towers(dim=DIM, hidden=hidden, init_scale=0.5)
    dense, _ = split(
        model.init(Sides(side, side, side, 1, ITEMS), torch.Generator().manual_seed(1))
    )
    made = dense | values(learner.init(dense, torch.Generator().manual_seed(2)))
    # Fresh scalars are 0: a gradient through them would be seen by nothing.
    moved = {n: 0.3 * random(*p.shape, seed=i) for i, (n, p) in enumerate(made.items())}
    return {n: p.double() + moved[n] for n, p in made.items()}


CATALOGUE = EncodedItems(
    torch.arange(ITEMS),
    random(ITEMS, DIM, seed=3),
    random(ITEMS, seed=4),
    torch.arange(len(torch.arange(ITEMS))),
)
USER, NOW = random(DIM, seed=5), random(1, DIM, seed=6)


def problem(feedback, progress=None, *, begins=True):
    reference = torch.tensor([0, 2, 5])
    log_q = torch.tensor([-1.0, -0.5, -2.0], dtype=torch.float64)
    begins = torch.tensor(begins)
    return make_problem(
        feedback, CATALOGUE.at(reference), log_q, USER, NOW, progress=progress, begins=begins
    )


def support_of(items, *, width, labels=None, times=None, feedback="implicit"):
    """Return a support set of `items`, padded to `width` with events that must not matter."""
    real = len(items)
    fresh = {"implicit": [1.0] * real, "binary": [1.0, 0.0] * real, "explicit": [4.0, 1.5] * real}
    labels = fresh[feedback][:real] if labels is None else labels
    times = [40_000_000 * n for n in range(real)] if times is None else times
    padding = width - real
    return encode_support(
        Support(
            CATALOGUE.at(torch.tensor([*items, *[7] * padding], dtype=torch.int64)),
            random(width, DIM, seed=8),
            torch.tensor([*labels, *[99.0] * padding], dtype=torch.float64),
            torch.arange(width) < real,
            torch.tensor([*times, *[1] * padding], dtype=torch.int64),
        ),
        USER,
    )


CANDIDATES = encode_candidates(CATALOGUE, USER, NOW)


def scores(learner, meta, support, feedback="implicit", progress=None):
    asked = problem(feedback, progress)
    return learner.score(asked, meta, learner.adapt(asked, meta, support), CANDIDATES)


def query_loss(feedback, scored=None):
    """Return a query loss over the first two candidates; `scored` collects every score."""
    mask, label = torch.tensor([True, True]), torch.tensor([1.0, 0.0], dtype=torch.float64)

    def loss(score):
        found = score(CANDIDATES)
        if scored is not None:
            scored.append(found)
        if feedback == "implicit":
            return losses.softmax(found[:2], found[2:], mask)
        kind = losses.squared_error if feedback == "explicit" else losses.cross_entropy
        return kind(found[:2], label, mask)

    return loss


def objective(learner, meta, support, feedback, progress=0.5, scored=None):
    asked = problem(feedback, progress)
    return learner.objective(asked, meta, support, support, query_loss(feedback, scored))[0]


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


def test_pair_attention_sees_ages_but_no_other_order():
    meta = parameters(PAIR)
    forward = support_of([1, 4, 6], width=3)
    order = torch.tensor([2, 0, 1])
    names = ("index", "item", "offset", "label", "age", "mask", "time", "context")
    mixed = forward._replace(**{n: getattr(forward, n)[order] for n in names})
    torch.testing.assert_close(scores(PAIR, meta, mixed), scores(PAIR, meta, forward))
    aged = mixed._replace(age=forward.age)
    assert not torch.allclose(scores(PAIR, meta, aged), scores(PAIR, meta, forward))


def test_pair_attention_is_the_kernel_smoother_written_out():
    learner = PairAttention(heads=1, width=1)
    meta = parameters(learner)
    support = support_of([1, 4], width=2, labels=[5.0, 2.0], feedback="explicit")
    candidate = CATALOGUE.vector[0]
    mass, liked = 0.0, 0.0
    for event in range(2):
        given = support.item[event] + support.context[event]
        over = support.label[event] - support.offset[event]
        near = (candidate @ meta["context.query.weight"]) * (given @ meta["context.key.weight"])
        near = near + meta["context.kernel.bias"] + meta["context.kernel.label"] * over
        rate = torch.log1p(meta["context.kernel.decay"].exp())
        weight = torch.log1p(near.exp()) * torch.exp(-rate * (1 - event))
        mass, liked = mass + weight, liked + weight * over
    shrink = torch.log1p(meta["context.kernel.shrink"].exp())
    shift = meta["context.near"] * torch.log1p(mass / shrink)
    shift = shift + meta["context.liked"] * liked / (mass + shrink)
    expected = problem("explicit").predict(meta, CANDIDATES)[0] + shift.squeeze()
    torch.testing.assert_close(scores(learner, meta, support, "explicit")[0], expected)


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


def test_gaps_fall_into_buckets_of_seconds():
    seconds = torch.tensor(
        [5, 5, 6, 14, 24, 54, 174, 3774]
    )  # since the one before: 0, 0, 1, 8, ...
    table = torch.arange(6.0)[:, None]
    # Gaps 0, 0, 1, 8, 10, 30, 120, 3600: edges belong to the bucket above.
    expected = torch.tensor([0, 0, 1, 1, 2, 3, 4, 5.0])[:, None]
    torch.testing.assert_close(gap_vectors(table, seconds * 1_000_000), expected)


def test_a_long_support_is_read_by_its_newest_events():
    support = newest(support_of([1, 4, 6, 3, 8], width=7), 3)
    assert support.index.tolist() == [6, 3, 8]
    assert support.age.tolist() == [2, 1, 0]
    assert support.mask.all()
    short = newest(support_of([1, 4], width=7), 3)
    assert short.mask.tolist() == [True, True, False]


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


def test_heads_that_do_not_share_the_dimensions_evenly_are_refused():
    with pytest.raises(ConfigError, match=r"multiple of heads, got 4 and 3 \(algorithm.heads\)"):
        parameters(CausalTransformer(heads=3))
