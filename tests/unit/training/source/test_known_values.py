from pathlib import Path

import polars as pl
import torch

from metarec_ray.config.experiment import parse
from metarec_ray.core.batch import Features, FieldSpan, SideInformation
from metarec_ray.core.parameters import Parameter, Rows
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.source.known_values import known_values, without_unknown
from metarec_ray.training.trainer import Trainer
from tests.unit.small_histories import histories_of

FIELDS = (FieldSpan("town", True, 1, 5), FieldSpan("job", True, 5, 8))
"""Row 0 is padding; 1 and 5 are the unknown of their fields."""


def side(tokens: list[list[int]]) -> SideInformation:
    found = torch.tensor(tokens)
    features = Features(found, (found > 0).float(), torch.zeros(len(tokens), 0))
    return SideInformation(features, FIELDS, 8)


def test_what_training_hardly_met_is_not_known() -> None:
    # Town 4 is that of an entity without events, town 3 that of one entity, job 7 of nobody.
    users = side([[2, 6], [2, 6], [3, 6], [4, 6], [4, 0]])
    items = side([[2, 6], [3, 0], [4, 7]])
    histories = histories_of([[0], [1], [0], [], []], n_items=3)
    histories = histories._replace(users=users, items=items)
    known = known_values(histories, torch.tensor([True, True, False]))
    assert known["user"].nonzero().flatten().tolist() == [2, 6]
    # Nobody asks who an item is: one that was met is enough.
    assert known["item"].nonzero().flatten().tolist() == [2, 3, 6]


def test_unknown_rows_are_zero_where_tokens_are_declared() -> None:
    declared = {
        "user.bags": Parameter(torch.arange(1.0, 5).view(4, 1), rows=Rows("user", "tokens")),
        "user.columns": Parameter(torch.ones(4, 1), rows=Rows("user", "dense")),
    }
    values = {name: one.value for name, one in declared.items()}
    known = {"user": torch.tensor([False, True, False, True])}
    found = without_unknown(declared, values, known)
    assert found["user.bags"].flatten().tolist() == [0, 2, 0, 4]
    assert found["user.columns"] is values["user.columns"]


def test_users_mean_in_a_checkpoint_what_they_meant_in_training(tmp_path: Path) -> None:
    tags = [f"own{user}a|own{user}b|tag{user % 3}" for user in range(60)]
    pl.DataFrame({"id": range(60), "tags": tags}).write_parquet(tmp_path / "users.parquet")
    log = {"user": [u for u in range(60) for _ in range(8)], "item": [n % 20 for n in range(480)]}
    pl.DataFrame(log | {"time": range(480)}).write_parquet(tmp_path / "log.parquet")
    features = {"tags": {"kind": "multi_categorical", "separator": "|"}}
    asked = {
        "path": str(tmp_path / "log.parquet"),
        "columns": {"entity": "user", "item": "item", "time": "time"},
        "users": {"path": str(tmp_path / "users.parquet"), "id": "id", "features": features},
        "buckets": 1,
    }
    data = Data.model_validate(asked)
    build_store(read_log(data), data, tmp_path / "store")
    train = {"num_workers": 1, "steps": 5, "lanes": 1, "lane_tasks": 8}
    tasks = {"window": 2, "ks": [2], "query_size": 2}
    settings = {"model": {"dim": 4, "user_dropout": 0.0}, "train": train | {"tasks": tasks}}
    trainer = Trainer(parse(settings, "test"), TaskStore.open(tmp_path / "store"))
    for _ in trainer.run(5):
        pass
    lane = trainer.sampler.lane(0, 0, 0, lanes=1, lane_tasks=8)
    model, histories = trainer.recipe.model, trainer.source.histories
    whole = histories.users.features.at(torch.searchsorted(histories.task_id, lane.entity))
    trained = model.encode(trainer.state.dense, "user", lane.user)
    torch.testing.assert_close(model.encode(trainer.parameters(), "user", whole), trained)
    assert bool(trained.any())
