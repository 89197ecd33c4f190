"""Gradients of a stack are those of each of its runs alone, to the last digits of float64."""

from typing import Any

import pytest
import torch

from metarec_ray.algorithms.base import MetaLearner
from metarec_ray.algorithms.problem import Recipe
from metarec_ray.core.batch import Lane, Params
from metarec_ray.core.parameters import Rows
from metarec_ray.training.meta_step.step import ParameterState, lane_result
from metarec_ray.training.stacked.alike import learner_rates
from metarec_ray.training.stacked.encodings import step_tasks
from metarec_ray.training.stacked.step import Run, Shared, stacked_results
from tests.unit.algorithms import meta_learners

MAPPED = [one for one in meta_learners.CLASSES if one.mapped]
CASES = [(one, feedback) for one in MAPPED for feedback in one.suits]
TABLES = {"item.ids": Rows("item", "ids"), "user.ids": Rows("user", "ids")}
ENCODED = ("item.", "user.", "context.")


def learners(kind: type[MetaLearner]) -> list[MetaLearner]:
    """The same learner with other rates; for those without any, the same one."""
    own = [{"inner_lr": 0.1, "half_life": 2.0, "prior_events": 1.0}]
    own += [{"inner_lr": 0.3, "half_life": 2.0, "prior_events": 3.0}]
    return [kind(**{k: v for k, v in keys.items() if k in kind.model_fields}) for keys in own]


def state(learner: MetaLearner, seed: int) -> ParameterState:
    dense, tables = meta_learners.parameters(learner)
    torch.default_generator.manual_seed(seed)
    moved = [
        {n: p + 0.1 * torch.randn_like(p) for n, p in part.items()} for part in (dense, tables)
    ]
    users = {"user.ids": torch.randn(meta_learners.TASKS, 4, dtype=torch.float64)}
    return ParameterState(moved[0], moved[1] | users, {})


def alone(
    recipe: Recipe, buffers: Params, own: ParameterState, lanes: list[Lane]
) -> ParameterState:
    """The mean gradients of the lanes, each computed alone: of tables with a row for every id."""
    dense: Params = {}
    tables = {name: torch.zeros_like(table) for name, table in own.tables.items()}
    for seed, lane in enumerate(lanes):
        found = lane_result(recipe, buffers, own, lane, table_rows=TABLES, progress=0.5, seed=seed)
        dense["all"] = dense.get("all", 0) + found.dense / len(lanes)
        for name, (ids, gradient) in found.rows.items():
            tables[name][ids] += gradient / len(lanes)
    return ParameterState(dense, tables, {})


@pytest.mark.parametrize(("kind", "feedback"), CASES, ids=lambda one: getattr(one, "__name__", one))
@pytest.mark.parametrize("negatives", [0, 3])
def test_gradients_are_those_of_each_run_alone(
    kind: type[MetaLearner], feedback: Any, negatives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = (
        (3,) if getattr(kind, "layers", None) or kind.__name__ in ("Anil", "BayesianHead") else ()
    )
    model = meta_learners.MODEL.model_copy(update={"hidden": hidden, "user_dropout": 0.4})
    monkeypatch.setattr(meta_learners, "MODEL", model)
    both = learners(kind)
    recipes = [Recipe.of(learner, model, feedback) for learner in both]
    runs = [state(learner, seed) for seed, learner in enumerate(both)]
    lanes = [meta_learners.lane(feedback, negatives=negatives) for _ in range(2)]
    lanes[1] = lanes[1]._replace(tasks=meta_learners.lane(feedback, support=(4, 1, 3)).tasks)
    if negatives:  # then lanes have other items
        lanes[1] = meta_learners.lane(feedback, support=(1, 0, 3), negatives=negatives)
    buffers = meta_learners.buffers()
    tasks = step_tasks(lanes, user_dropout=model.user_dropout, seeds=[0, 1])
    assert len(tasks.lanes) == (2 if negatives else 1)
    names = tuple(n for n in runs[0].dense if not n.startswith(ENCODED))
    shared = Shared(recipes[0], buffers, names, TABLES)
    none = ParameterState({}, {}, {})
    rates = {n: torch.tensor(v, dtype=torch.float64) for n, v in learner_rates(both).items()}
    found = stacked_results(shared, [Run(own, none) for own in runs], rates, tasks, progress=0.5)
    for recipe, own, result in zip(recipes, runs, found, strict=True):
        expected = alone(recipe, buffers, own, lanes)
        torch.testing.assert_close(result.dense, expected.dense["all"], rtol=1e-10, atol=1e-13)
        for name, (ids, gradient) in result.rows.items():
            rows = torch.zeros_like(own.tables[name]).index_copy(0, ids, gradient)
            torch.testing.assert_close(rows, expected.tables[name], rtol=1e-10, atol=1e-13)


def test_nan_in_one_run_is_in_no_other() -> None:
    model = meta_learners.MODEL.model_copy(update={"hidden": ()})
    kind = next(one for one in MAPPED if one.__name__ == "Maml")
    learner = learners(kind)[0]
    recipe, buffers = Recipe.of(learner, model, "implicit"), meta_learners.buffers()
    runs = [state_of(model, learner, seed) for seed in range(3)]
    lanes = [meta_learners.lane("implicit")]
    tasks = step_tasks(lanes, user_dropout=0.0, seeds=[0])
    names = tuple(n for n in runs[0].dense if not n.startswith(ENCODED))
    shared, none = Shared(recipe, buffers, names, TABLES), ParameterState({}, {}, {})
    whole = stacked_results(shared, [Run(one, none) for one in runs], {}, tasks, progress=0.5)
    runs[1].tables["item.ids"][0] = torch.nan
    spoilt = stacked_results(shared, [Run(one, none) for one in runs], {}, tasks, progress=0.5)
    assert spoilt[1].dense.isnan().any()
    for number in (0, 2):
        assert torch.equal(spoilt[number].dense, whole[number].dense)


def state_of(model: Any, learner: MetaLearner, seed: int) -> ParameterState:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta_learners, "MODEL", model)
        return state(learner, seed)
