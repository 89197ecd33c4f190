import pytest
import torch
from torch import Tensor

from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.parameters import split
from metarec_ray.models.bounded_catalogue import BoundedCatalogue
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.head import head_score
from metarec_ray.models.towers import Sides, Towers

ITEMS, DIM, TASKS = 600, 8, 3


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shared(hidden: tuple[int, ...]) -> Params:
    model = Towers(dim=DIM, hidden=hidden)
    dense, _ = split(model.init(Sides(*(Side(1, 0),) * 3, users=1, items=1), generator(0)))
    noise = {n: torch.randn(p.shape, generator=generator(1)) for n, p in dense.items()}
    return {n: p + 0.3 * noise[n] for n, p in dense.items() if n.startswith(("head.", "offset."))}


def adapted(params: Params, names: tuple[str, ...]) -> Params:
    """Return parameters of which some differ from task to task."""
    return {
        name: value + 0.2 * torch.randn(TASKS, *value.shape, generator=generator(2))
        if name.startswith(names)
        else value
        for name, value in params.items()
    }


def exactly(head: Params, vector: Tensor, offset: Tensor, query: Tensor) -> Tensor:
    """Scores in float64."""
    zeros = torch.zeros(ITEMS)
    nothing = torch.zeros(TASKS, 1, DIM).double()
    mask, time = zeros == 0, zeros.long()
    item = vector.double(), offset.double()
    events = Encoded(time, *item, query.double(), nothing, zeros, zeros, mask, time, time)
    return head_score({name: value.double() for name, value in head.items()}, events)


@pytest.mark.parametrize("hidden", [(), (6,), (6, 5)])
@pytest.mark.parametrize("names", [("head.out.",), ("head.1.", "head.out.", "offset."), ("head.",)])
def test_bounds_are_above_the_heads_scores_and_not_far(
    hidden: tuple[int, ...], names: tuple[str, ...]
) -> None:
    meta = shared(hidden)
    vector = torch.randn(ITEMS, DIM, generator=generator(3)) + 0.5
    offset = torch.randn(ITEMS, generator=generator(4)) + 3
    query = torch.randn(TASKS, DIM, generator=generator(5))
    head = adapted(meta, names)
    expected = exactly(head, vector, offset, query)
    for low, most in ((False, 1e-3), (True, 0.1)):
        found = BoundedCatalogue(meta, vector, offset, low=low).bounds(head, query)
        above = found.value.double() + found.shift.unsqueeze(1) - expected
        assert float(above.min()) > 0
        assert float(above.max() / expected.std()) < most


@pytest.mark.parametrize("low", [True, False])
def test_what_float32_cannot_hold_is_no_error_and_bounds_nothing(low: bool) -> None:
    meta = shared(())
    vector, offset = torch.full((ITEMS, DIM), 1e30), torch.zeros(ITEMS)
    vector[::2] = -1e30
    catalogue = BoundedCatalogue(meta, vector, offset, low=low)
    found = catalogue.bounds(meta, torch.full((1, DIM), 1e38))
    assert not bool(found.value.isfinite().any())
