"""Groups of a vectorised sweep: what they report, that they resume, who is in which."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.config.sweeping import Sweep
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.tune import groups
from metarec_ray.engine.tune.group import ENDED, TRIALS, Group, packed
from metarec_ray.engine.tune.judged import WHY, judged
from metarec_ray.engine.tune.trial import reported
from metarec_ray.errors import ConfigError
from metarec_ray.training.trainer import Trainer

METRIC = "valid_ndcg@10"
VALUES = [
    {"algorithm.inner_lr": rate, "train.outer_lr": outer}
    for rate, outer in ((0.2, 0.01), (0.5, 0.03), (1e38, 0.01), (0.3, 0.003))
]
TREE = {
    "evaluate": {"ks": [0, 2], "query_size": 2, "min_positives": 4},
    "model": {"dim": 4},
    "algorithm": {"name": "maml"},
    "train": {
        "lanes": 2, "num_workers": 1, "lane_tasks": 4,
        "tasks": {"window": 4, "ks": [0, 2], "query_size": 2},
    },
    "sweep": {
        "steps": 4, "rungs": 2, "vectorised": True,
        "space": {
            "algorithm.inner_lr": {"low": 0.1, "high": 1.0},
            "train.outer_lr": {"low": 0.001, "high": 0.1},
        },
    },
}  # fmt: skip


def asked(**keys: Any) -> Experiment:
    return override(parse(TREE, "test"), {n.replace("__", "."): v for n, v in keys.items()})


def group_of(experiment: Experiment, store: TaskStore) -> Group:
    first = override(experiment, {**VALUES[0], "train.steps": experiment.sweep.steps})
    return Group(experiment.sweep, judged(first, store), VALUES, store)


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store)


def alone(experiment: Experiment, store: TaskStore, number: int, steps: int) -> dict[str, Any]:
    own = override(experiment, {**VALUES[number], "train.steps": experiment.sweep.steps})
    (part,) = judged(own, store)
    trainer = Trainer(part.experiment, store)
    list(trainer.run(steps))
    return reported(part.judge, trainer.checkpoint({}))


def test_a_group_reports_what_its_trials_do_alone_and_goes_on_from_a_rung(
    store: TaskStore, tmp_path: Path
) -> None:
    experiment = asked(sweep__scheduler="none")
    group = group_of(experiment, store)
    first = json.loads(json.dumps(group.climb()))
    group.save(tmp_path)
    last = group.climb()
    assert (first["step"], last["step"]) == (2, 4)
    lost = last[TRIALS][2]
    assert math.isnan(lost[METRIC])
    assert "the meta-gradient must be finite" in lost[WHY]
    assert lost[ENDED] in (1, 2)
    for number in (0, 1, 3):
        for report, steps in ((first, 2), (last, 4)):
            expected = alone(experiment, store, number, steps)
            found = report[TRIALS][number]
            assert found["step"] == expected["step"] == steps
            assert found[METRIC] == pytest.approx(expected[METRIC], abs=1e-6)
    assert last[METRIC] == max(last[TRIALS][number][METRIC] for number in (0, 1, 3))
    again = group_of(experiment, store)
    again.restore(tmp_path)
    assert again.on_their_way == [n for n in range(4) if ENDED not in first[TRIALS][n]]
    assert repr(again.climb()) == repr(last)
    assert again.on_their_way == []


def test_the_worse_half_is_trained_no_further(store: TaskStore) -> None:
    group = group_of(asked(), store)
    first = group.climb()
    left = group.on_their_way
    values = {number: first[TRIALS][number][METRIC] for number in (0, 1, 3)}
    assert left == [n for n in (0, 1, 3) if values[n] >= sorted(values.values())[1]]
    last = group.climb()
    assert {n: report["step"] for n, report in enumerate(last[TRIALS]) if n in values} == {
        n: 4 if n in left else 2 for n in values
    }


def test_a_trial_by_folds_is_the_mean_of_a_stack_without_each(store: TaskStore) -> None:
    group = group_of(asked(sweep__folds=2, sweep__rungs=1), store)
    report = group.climb()[TRIALS][0]
    assert report["fold_ndcg@10"] == pytest.approx(sum(report["folds"]) / 2)
    assert group.on_their_way == []


def test_trials_that_differ_in_rates_alone_are_a_group() -> None:
    space = {
        "train.outer_lr": {"low": 0.001, "high": 0.1},
        "algorithm.inner_steps": {"choices": [1, 3]},
        "algorithm.half_life": {"choices": [None, 2.0]},
    }
    sweep = Sweep.model_validate({"space": space, "trials": 40, "vectorised": True})
    trials = groups.trial_values(sweep, 0)
    found = groups.groups(sweep, trials)
    assert sorted(map(str, trials)) == sorted(str(one) for group in found for one in group)
    assert len(found) == 4
    for group in found:
        assert len({(v["algorithm.inner_steps"], v["algorithm.half_life"]) for v in group}) == 1
    many = sweep.model_copy(
        update={"trials": 80, "space": {"train.outer_lr": sweep.space["train.outer_lr"]}}
    )
    sizes = [len(group) for group in groups.groups(many, groups.trial_values(many, 0))]
    assert sizes == [32, 32, 16]
    assert groups.trial_values(many, 0) != groups.trial_values(many, 1)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"sweep__search": "optuna"}, "trains its trials together, search optuna learns"),
        (
            {"sweep__space": {"model.user_dropout": {"low": 0.1, "high": 0.5}}},
            "draws rates alone from an interval, got model.user_dropout, which needs choices",
        ),
        (
            {"sweep__space": {"algorithm.name": {"choices": ["maml", "recurrent"]}}},
            "are of maml, fomaml, .*, got recurrent",
        ),
    ],
)
def test_what_cannot_be_vectorised_is_refused(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        groups.require_vectorisable(asked(**keys))


def test_rows_are_those_of_trials_alone_in_the_order_they_were_drawn() -> None:
    experiment = asked(sweep__trials=3)
    (drawn,) = groups.asked(experiment)
    reports = [
        {"values": drawn[2], "step": 2, METRIC: 0.1, ENDED: 1},
        {"values": drawn[0], "step": 4, METRIC: 0.2},
        {"values": drawn[1], "step": 3, METRIC: math.nan, WHY: "it diverged", ENDED: 2},
    ]
    fine = SimpleNamespace(metrics=packed({TRIALS: reports}), error=None, config={groups.GROUP: 0})
    assert groups.rows([fine], METRIC, experiment) == [
        {"values": drawn[0], "step": 4, METRIC: 0.2},
        {"values": drawn[1], "step": 3, METRIC: None, WHY: "it diverged"},
        {"values": drawn[2], "step": 2, METRIC: 0.1},
    ]
    killed = SimpleNamespace(**vars(fine) | {"error": RuntimeError("out of memory")})
    rows = groups.rows([killed], METRIC, experiment)
    assert [row.get(WHY) for row in rows] == ["out of memory", "it diverged", None]
    before = SimpleNamespace(**vars(killed) | {"metrics": {}})
    assert [row[METRIC] for row in groups.rows([before], METRIC, experiment)] == [None] * 3


def test_every_trial_is_told_once_as_it_ends() -> None:
    said: list[str] = []
    told = groups.GroupProgress(said.append, METRIC, [VALUES[:3]])
    first = {"values": VALUES[0], "step": 2, METRIC: 0.25, ENDED: 1}
    second = {"values": VALUES[1], "step": 2, METRIC: math.nan, WHY: "why", ENDED: 1}
    third = {"values": VALUES[2], "step": 2, METRIC: 0.5}
    group: Any = SimpleNamespace(
        config={groups.GROUP: 0},
        last_result=packed({TRIALS: [first, second, third]}),
        get_error=lambda: RuntimeError("it was killed"),
    )
    told.on_trial_result(1, [], group, {"rung": 1} | group.last_result)
    told.on_trial_error(1, [], group)
    told.on_trial_complete(1, [], group)
    assert len(said) == 3
    assert said[0].startswith(f"tune: trial 1/3  {METRIC} 0.2500  after step 2")
    assert said[1].endswith("(why)")
    assert said[2].endswith("(it was killed)")
