import torch

from metarec_ray.core.batch import Features, FieldSpan, SideInformation
from metarec_ray.core.parameters import Parameter, Rows
from metarec_ray.training.token_rows import share_rows, token_rows
from tests.unit.small_histories import histories_of

FIELDS = (FieldSpan("town", True, 1, 5), FieldSpan("job", True, 5, 8))
"""Row 0 is padding; 1 and 5 are the unknown of their fields."""


def side(tokens: list[list[int]]) -> SideInformation:
    found = torch.tensor(tokens)
    features = Features(found, (found > 0).float(), torch.zeros(len(tokens), 0))
    return SideInformation(features, FIELDS, 8)


def test_what_training_hardly_met_is_unknown() -> None:
    # Town 4 is that of an entity without events, town 3 that of one entity, job 7 of nobody.
    users = side([[2, 6], [2, 6], [3, 6], [4, 6], [4, 0]])
    items = side([[2, 6], [3, 0], [4, 7]])
    histories = histories_of([[0], [1], [0], [], [1]], n_items=3)
    histories = histories._replace(users=users, items=items)
    rows = token_rows(histories, torch.tensor([True, True, False]))
    assert rows["user"].tolist() == [0, 1, 2, 1, 1, 5, 6, 5]
    # Of an item nobody asks who it is: one that was met is enough.
    assert rows["item"].tolist() == [0, 1, 2, 3, 1, 5, 6, 5]


def test_shared_rows_are_written_where_they_are_declared() -> None:
    declared = {
        "user.bags": Parameter(torch.arange(4.0).view(4, 1), rows=Rows("user", "tokens")),
        "user.columns": Parameter(torch.ones(4, 1), rows=Rows("user", "dense")),
    }
    values = {name: one.value for name, one in declared.items()}
    found = share_rows(declared, values, {"user": torch.tensor([0, 1, 1, 3])})
    assert found["user.bags"].flatten().tolist() == [0, 1, 1, 3]
    assert found["user.columns"] is values["user.columns"]
