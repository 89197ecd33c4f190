import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from metarec_ray import checkpoint as checkpoints
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import parse
from metarec_ray.core.batch import NO_CHANGES, Features
from metarec_ray.data.log.labels import LabelRules
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data, Feature, Synthetic
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.features import stack
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError, NotFinite, RequestError
from metarec_ray.inference import single
from metarec_ray.inference.limits import MAX_SUPPORT
from metarec_ray.inference.rankings import Ranking
from metarec_ray.inference.recommender import Recommender, SupportEvent
from metarec_ray.inference.supports import Supports
from metarec_ray.training.fit import fit
from metarec_ray.training.meta_step.objective import lane_objective
from metarec_ray.training.meta_step.step import Alone
from metarec_ray.training.trainer import Trainer

SETTINGS: dict[str, Any] = {
    "model": {"dim": 4},
    "train": {"num_workers": 1, "lanes": 2, "lane_tasks": 8, "reference_items": 16, "steps": 5},
}


@pytest.fixture(scope="module")
def trained(synthetic_store: Path) -> Checkpoint:
    trainer = Trainer(parse(SETTINGS, "test"), TaskStore.open(synthetic_store))
    for _ in range(5):
        trainer.train_step(Alone())
    return trainer.checkpoint({"query_loss": 1.0})


@pytest.fixture(scope="module")
def model(trained: Checkpoint) -> Recommender:
    return Recommender(trained)


@pytest.fixture(scope="module")
def constant(trained: Checkpoint) -> Recommender:
    """A model that scores every item 0: nothing but ties."""
    kept = ("buffer.trained", "buffer.reference.items")
    zero = {n: p if n in kept else torch.zeros_like(p) for n, p in trained.model.items()}
    return Recommender(trained._replace(model=zero))


def events(model: Recommender, n: int) -> list[SupportEvent]:
    warm = [row for row in range(len(model.ids)) if bool(model.trained[row])]
    return [SupportEvent(model.ids[row]) for row in warm[:n]]


def ids(ranking: Ranking) -> list[str]:
    return [item.id for item in ranking.items]


def test_scores_fall_and_the_best_of_few_lead_the_best_of_many(model: Recommender) -> None:
    ten, three = (model.rank(events(model, 3), k=k) for k in (10, 3))
    scores = [item.score for item in ten.items]
    assert len(scores) == 10
    assert all(score is not None and math.isfinite(score) for score in scores)
    assert scores == sorted(scores, key=lambda score: -(score or 0))
    assert ten.items[:3] == three.items
    assert all(item.title is not None and not item.cold for item in ten.items)


def test_ties_are_in_the_order_of_ids(constant: Recommender) -> None:
    warm = [row for row in range(len(constant.ids)) if bool(constant.trained[row])]
    expected = sorted(constant.ids[row] for row in warm)
    assert ids(constant.rank([], k=1000)) == expected
    given = list(reversed(expected[:7]))
    assert ids(constant.rank([], given, k=5)) == expected[:5]


def test_an_empty_support_is_the_prior_for_everybody(model: Recommender) -> None:
    prior = model.rank([], k=20)
    assert (prior.adapted, prior.support_used, prior.unknown) == (False, 0, [])
    nothing_usable = model.rank([SupportEvent("no-such-item")] * 2, k=20)
    assert nothing_usable.items == prior.items
    assert (nothing_usable.adapted, nothing_usable.support_used) == (False, 0)
    assert nothing_usable.unknown == [0, 1]


def test_a_support_changes_the_scores(model: Recommender) -> None:
    support = events(model, 3)
    adapted = model.rank(support, k=10, exclude_seen=False)
    assert (adapted.adapted, adapted.support_used) == (True, 3)
    assert adapted.items != model.rank([], k=10).items


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    """Ratings of 20 items."""
    asked = Data(feedback="explicit", buckets=1, synthetic=Synthetic(users=60, items=20))
    folder = tmp_path_factory.mktemp("rated") / "store"
    build_store(read_log(asked), asked, folder)
    return TaskStore.open(folder)


@pytest.fixture(scope="module")
def biases(rated: TaskStore) -> Checkpoint:
    """Ratings as item and user biases."""
    tree = {"algorithm": {"name": "user_item_bias"}}
    return fit(parse(tree, "test"), rated)


def test_a_support_that_gives_no_numbers_is_answered_by_the_prior(biases: Checkpoint) -> None:
    model = Recommender(biases)
    prior = model.rank([], k=50).items
    # The sum of two of them is infinite in float32.
    support = [SupportEvent(item.id, 3e38) for item in prior[1:3]]
    unseen = [prior[0], *prior[3:]]
    for candidates in (None, model.ids):
        found = model.rank([*support, SupportEvent("unknown")], candidates, k=5)
        assert found == (unseen[:5], False, 0, [2], True)
    assert model.rank(support, k=50, exclude_seen=False).items == prior
    assert not model.rank(support[:1], k=5).diverged


def test_a_model_whose_prior_is_no_number_cannot_rank(biases: Checkpoint) -> None:
    item = biases.model["item"].clone()
    item[biases.model["buffer.trained"].nonzero()[3]] = torch.nan
    model = Recommender(biases._replace(model=biases.model | {"item": item}))
    for support in ([], [SupportEvent(model.ids[0], 3.0)]):
        with pytest.raises(NotFinite, match="scores must be finite, default 0 gives NaN or"):
            model.rank(support, k=2)


SURE: dict[str, dict[str, Any]] = {
    "eb_ridge": {"factors": 2},
    "variational_bayes": {"factors": 2, "sweeps": 3},
    "covariance_tracking": {"backbone": {"factors": 2, "sweeps": 3}},
    "gp_head": {"backbone": {"factors": 2, "sweeps": 3}, "steps": 3},
}


@pytest.mark.parametrize("name", SURE)
def test_a_learner_with_a_posterior_says_how_sure_it_is_in_the_unit_of_labels(
    name: str, rated: TaskStore
) -> None:
    found = fit(parse({"algorithm": {"name": name, **SURE[name]}}, "test"), rated)
    model = Recommender(found)
    support = events(model, 6)

    def stds(found: Ranking) -> dict[str, float]:
        return {item.id: item.std for item in found.items if item.std is not None}

    prior, adapted = stds(model.rank([], k=50)), stds(model.rank(support, k=50))
    assert len(prior) == int(model.trained.sum())
    assert set(adapted) == set(prior) - {event.item for event in support}
    assert all(0 < std < prior[item] for item, std in adapted.items())
    given = model.rank(support, [*adapted, "unknown"], k=50)
    assert stds(given) == pytest.approx(adapted)
    assert given.items[-1].std is None
    assert stds(model.rank(support, list(adapted), k=3)) == pytest.approx(
        {item.id: adapted[item.id] for item in given.items[:3]}
    )
    tenfold = {"buffer.label.std": 10 * found.model["buffer.label.std"]}
    wide = Recommender(found._replace(model=found.model | tenfold)).rank(support, k=50)
    assert stds(wide) == pytest.approx({item: 10 * std for item, std in adapted.items()})


def test_a_learner_without_a_posterior_says_nothing_of_how_sure_it_is(
    biases: Checkpoint, model: Recommender
) -> None:
    for one in (Recommender(biases), model):
        assert all(item.std is None for item in one.rank(events(one, 2), k=5).items)


def test_events_of_unknown_items_are_named_and_left_out(model: Recommender) -> None:
    first, second = events(model, 2)
    found = model.rank([SupportEvent("new-1"), first, SupportEvent("new-2"), second], k=10)
    assert found.unknown == [0, 2]
    assert found.support_used == 2
    assert found.items == model.rank([first, second], k=10).items


def test_what_the_user_has_seen_is_left_out_unless_asked_for(model: Recommender) -> None:
    support = events(model, 3)
    seen = {event.item for event in support}
    everything = int(model.trained.sum())
    assert len(model.rank(support, k=1000).items) == everything - 3
    assert not seen & set(ids(model.rank(support, k=1000)))
    assert seen <= set(ids(model.rank(support, k=1000, exclude_seen=False)))
    given = [*seen, *model.ids[:20]]
    assert not seen & set(ids(model.rank(support, given, k=30)))
    assert seen <= set(ids(model.rank(support, given, k=30, exclude_seen=False)))


def test_given_candidates_are_scored_as_in_the_catalogue(model: Recommender) -> None:
    support = events(model, 2)
    whole = {item.id: item.score for item in model.rank(support, k=1000).items}
    some = list(whole)[5:15]
    found = model.rank(support, [*reversed(some), some[0]], k=10)
    assert ids(found) == some
    scores = [item.score for item in found.items]
    assert scores == pytest.approx([whole[item] for item in some], rel=1e-6)


def test_unknown_candidates_are_last_without_a_score(model: Recommender) -> None:
    known = model.ids[:3]
    found = model.rank([], ["zz", *known, "aa", "zz"], k=10)
    assert set(ids(found)[:3]) == set(known)
    assert ids(found)[3:] == ["aa", "zz"]
    for item in found.items[3:]:
        assert (item.score, item.title, item.cold) == (None, None, True)
    assert len(model.rank([], ["zz", *known], k=2).items) == 2


def test_no_candidates_is_an_empty_ranking(model: Recommender) -> None:
    assert model.rank([], [], k=10).items == []


def test_items_that_were_never_trained_are_ranked_when_asked_for(model: Recommender) -> None:
    new = [model.ids[row] for row in range(len(model.ids)) if not bool(model.trained[row])]
    assert new
    assert not set(new) & set(ids(model.rank([], k=1000)))
    found = model.rank([], new, k=1000)
    assert set(ids(found)) == set(new)
    assert all(item.cold and item.score is not None for item in found.items)


def pad_to(features: Features, n: int) -> Features:
    rows = torch.arange(n).clamp(max=features.tokens.shape[1] - 1)
    return Features(*(column[:, rows] for column in features))


def test_padding_of_the_support_does_not_change_the_scores(model: Recommender) -> None:
    support = model._supports(events(model, 3), {}, {})
    fill = torch.tensor([[5, 7]])
    padded = Supports(
        item=torch.cat([support.item, fill], 1),
        label=torch.cat([support.label, torch.full((1, 2), 9.0)], 1),
        mask=torch.cat([support.mask, torch.zeros(1, 2, dtype=torch.bool)], 1),
        time=torch.cat([support.time, torch.zeros_like(fill)], 1),
        context=pad_to(support.context, 5),
        user=support.user,
        now=support.now,
    )
    torch.testing.assert_close(model.scores(padded), model.scores(support))


def test_a_batch_of_users_is_a_loop_over_them(
    model: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [model._supports(events(model, start + 3)[start:], {}, {}) for start in range(3)]
    whole = Supports(
        item=torch.cat([user.item for user in users]),
        label=torch.cat([user.label for user in users]),
        mask=torch.cat([user.mask for user in users]),
        time=torch.cat([user.time for user in users]),
        context=stack([user.context for user in users]),
        user=stack([user.user for user in users]),
        now=stack([user.now for user in users]),
    )
    for chunk in (1, 2, 64):
        monkeypatch.setattr(single, "CHUNK", chunk)
        found = model.scores(whole)
        for row, user in enumerate(users):
            torch.testing.assert_close(found[row], model.scores(user)[0])


def test_user_fields_and_context_reach_the_scores(model: Recommender) -> None:
    base = model.rank([], k=10).items
    age = model.vocabularies["user"]["age"][0]
    assert model.rank([], k=10, user_fields={"age": age}).items != base
    hour = model.vocabularies["context"]["hour"][0]
    assert model.rank([], k=10, context={"hour": hour}).items != base


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"algorithm": {"name": "fomaml"}},
        {
            "algorithm": {"name": "maml"},
            "model": {"dim": 4, "encoder": {"name": "mlp", "width": 3, "adapts": True}},
        },
    ],
    ids=["closed form", "descent", "an encoder that adapts"],
)
def test_serving_scores_a_task_as_training_did(more: dict[str, Any], synthetic_store: Path) -> None:
    trainer = Trainer(parse(SETTINGS | more, "test"), TaskStore.open(synthetic_store))
    for _ in range(5):
        trainer.train_step(Alone())
    model = Recommender(trainer.checkpoint({"query_loss": 1.0}))
    lane = trainer.sampler.lane(3, 0, 0, lanes=1, lane_tasks=8)
    lane = lane._replace(own=NO_CHANGES)  # as of entities that no offset was counted from
    rows = {"item.ids": trainer.state.tables["item.ids"][lane.items]}
    objective = lane_objective(trainer.recipe, trainer.buffers, lane)
    loss = objective(trainer.state.dense, rows)[1][0]
    support, query = lane.tasks.support, lane.tasks.query
    served = model.scores(
        Supports(
            item=lane.items[support.item],
            label=support.label,
            mask=support.mask,
            time=support.time,
            context=support.context,
            user=lane.user,
            now=Features(*(column[:, :1] for column in query.context)),
        )
    )[:, lane.items]
    losses = []
    for task in range(8):
        seen = support.item[task][support.mask[task]]
        positives = [at for at in query.item[task][query.mask[task]] if at not in seen]
        log_p = torch.log_softmax(served[task].index_fill(0, seen, -torch.inf), 0)
        losses.append(-sum(log_p[at] for at in positives) / len(positives))
    torch.testing.assert_close(loss, sum(losses) / 8, rtol=1e-5, atol=1e-6)


def test_events_may_have_different_numbers_of_context_tokens(tmp_path: Path) -> None:
    log = pl.DataFrame(
        [
            {"user": user, "item": (user + n) % 30, "time": n, "tags": ["a", "b"][: 1 + n % 2]}
            for user in range(60)
            for n in range(14)
        ]
    )
    log.write_parquet(tmp_path / "log.parquet")
    data = Data(
        path=str(tmp_path / "log.parquet"),
        context={"tags": Feature(kind="multi_categorical")},
        cutoff_quantile=0.5,
    )
    build_store(read_log(data), data, tmp_path / "store")
    trainer = Trainer(parse(SETTINGS, "test"), TaskStore.open(tmp_path / "store"))
    model = Recommender(trainer.checkpoint({}))
    one, two = model.ids[:2]
    bags = [SupportEvent(one, 1.0, {"tags": ["a"]}), SupportEvent(two, 1.0, {"tags": ["a", "b"]})]
    assert model.rank(bags).support_used == 2


def event(**more: Any) -> Callable[[Recommender], list[SupportEvent]]:
    return lambda model: [SupportEvent(model.ids[0], **more)]


@pytest.mark.parametrize(
    ("support", "asked", "message"),
    [
        (event(), {"k": 0}, "k must be >= 1 and support <= 200 events, got 0 and 1"),
        (lambda model: events(model, 1) * (MAX_SUPPORT + 1), {}, "got 10 and 201"),
        (event(label=math.nan), {}, "labels of the support must be finite"),
        (event(label=math.inf), {}, "labels of the support must be finite"),
        (event(label=1e300), {}, "labels of the support must be finite"),
        (event(context={"mood": 1}), {}, "context fields must be among .*, got 'mood'"),
        (event(), {"context": {"mood": 1}}, "context fields must be among .*, got 'mood'"),
        (event(), {"user_fields": {"shoe": 44}}, "user fields must be among .*, got 'shoe'"),
        (event(), {"user_fields": {"age": 1.5}}, "user field 'age' must be categorical"),
    ],
)
def test_a_question_that_cannot_be_answered_is_one_sentence(
    model: Recommender, support: Callable, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        model.rank(support(model), **asked)


def test_as_many_events_as_allowed_are_ranked(model: Recommender) -> None:
    assert model.rank(events(model, 1) * MAX_SUPPORT, k=1).support_used == MAX_SUPPORT


def test_it_knows_its_catalogue(model: Recommender) -> None:
    assert model.knows(model.ids[0])
    assert not model.knows("no-such-item")
    assert model.metadata["items"] == len(model.ids)


def test_it_is_the_same_from_disk_and_named_after_its_bytes(
    trained: Checkpoint, model: Recommender, tmp_path: Path
) -> None:
    path = checkpoints.step_path(tmp_path, 5)
    checkpoints.save(trained, path)
    loaded = Recommender.load(path)
    support = events(model, 3)
    assert loaded.rank(support) == model.rank(support)
    assert (loaded.name, loaded.version[:2]) == ("default", "5-")
    assert Recommender.load(path, name="other").name == "other"
    (path / "catalogue.parquet").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"catalogue.parquet has sha256"):
        Recommender.load(path)


def test_the_numbers_that_adapting_computes_are_counted(synthetic_store: Path) -> None:
    store = TaskStore.open(synthetic_store)

    def adapted(name: str) -> int:
        train = {"steps": 1, "lanes": 2, "lane_tasks": 2}
        tree = {"algorithm": {"name": name}, "model": {"dim": 4}, "train": train}
        return Recommender(fit(parse(tree, "the test"), store)).adapted()

    assert adapted("popularity") == 0
    assert adapted("anil") == 4 + 1  # the head's weights and its bias
    assert adapted("ease") == len(store.items.ids)  # a score an item


def test_supports_of_any_lengths_score_as_they_do_alone(synthetic_store: Path) -> None:
    store = TaskStore.open(synthetic_store)
    ease = parse({"algorithm": {"name": "ease"}}, "the test")
    found = Recommender(fit(ease, store))
    lengths = torch.arange(150) % 7  # more than a chunk, in no order, the empty one among them
    item = torch.randint(80, (150, 9), generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(150, 9, 0)
    unknown = found.spaces["user"].missing()
    supports = Supports(
        item=item,
        label=torch.ones(150, 9),
        mask=torch.arange(9) < lengths.unsqueeze(1),
        time=torch.zeros(150, 9, dtype=torch.int64),
        context=Features(nothing.long(), nothing, nothing),
        user=Features(*(column.expand(150, -1) for column in unknown)),
        now=Features(*(column[:, :1] for column in (nothing.long(), nothing, nothing))),
    )
    together = found.scores(supports)

    def part(features: Features, task: int) -> Features:
        return Features(*(column[task : task + 1] for column in features))

    def only(task: int) -> Supports:
        return Supports(
            item=supports.item[task : task + 1],
            label=supports.label[task : task + 1],
            mask=supports.mask[task : task + 1],
            time=supports.time[task : task + 1],
            context=part(supports.context, task),
            user=part(supports.user, task),
            now=part(supports.now, task),
        )

    for task in (0, 6, 64, 149):
        torch.testing.assert_close(together[task], found.scores(only(task))[0])


def test_a_model_has_the_rules_of_the_log_it_learned_from(trained: Checkpoint) -> None:
    # The configuration does not say that the synthetic log has labels: its store does.
    expected = LabelRules(feedback="implicit", labelled=True)
    assert Recommender(trained).rules == expected
    schema = trained.schema | {"labels": {**trained.schema["labels"], "label_min": 4.0}}
    assert Recommender(trained._replace(schema=schema)).rules.label_min == 4.0


def test_a_checkpoint_without_rules_has_those_of_its_configuration(trained: Checkpoint) -> None:
    schema = {name: value for name, value in trained.schema.items() if name != "labels"}
    config = trained.config | {"data": trained.config["data"] | {"label_min": 3.0}}
    found = Recommender(trained._replace(schema=schema, config=config))
    assert found.rules == LabelRules(feedback="implicit", label_min=3.0)
    assert found.fields["context"] == Recommender(trained).fields["context"]


def test_a_model_of_an_older_version_without_a_parameter_is_refused(synthetic_store: Path) -> None:
    trainer = Trainer(parse(SETTINGS, "test"), TaskStore.open(synthetic_store))
    checkpoint = trainer.checkpoint({"query_loss": 1.0})
    older = {name: value for name, value in checkpoint.model.items() if name != "bayes.constant"}
    with pytest.raises(CheckpointError, match=r"lacks bayes\.constant: it was trained by an older"):
        Recommender(checkpoint._replace(model=older))
    with pytest.raises(CheckpointError, match=r"lacks bayes\.constant"):
        trainer.load(older)
