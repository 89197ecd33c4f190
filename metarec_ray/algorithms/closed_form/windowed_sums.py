"""Normal equations of windowed ridge: sums over windows of supports and what followed them.

Knows how a support becomes a vector; does not solve the equations.

Axes: W windows, K events of a support, I items, P columns of user features, F columns of item
content, X = I + P + F columns of a support's vector, B buckets of offsets.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import Params, SideInformation
from metarec_ray.core.histories import Histories

EDGES = (0, 5, 19, 59)  # of buckets of offsets: the start of a history differs from its middle
_STEP = 2  # between the offsets of neighbouring windows
_FEW = 3  # fewest query events of a window
_CHUNK = 5_000  # windows summed at a time
_SECOND = 1_000_000  # microseconds
_WIDEST = 64  # columns of a field: one with more values is more an id than a feature


class Design(NamedTuple):
    """How one regression turns a support into a vector, and which windows it is fitted on.

    Attributes:
        events: support size k.
        decay: weight of an event relative to the next one.
        by_second: weight of an event relative to those of the next distinct second; if NaN, or if
            the support has no clock, `decay` is used.
        offsets: largest offset of a window.
        fade: a window at offset o has weight 1 / (1 + o / fade).
        content: weight of the items' content, relative to the items themselves.

    """

    events: int
    decay: float
    by_second: float
    offsets: int
    fade: float
    content: float


class Windows(NamedTuple):
    """W windows of histories."""

    entity: Tensor  # int64 [W]
    first: Tensor  # int64 [W]: first event
    offset: Tensor  # int64 [W]: earlier events of the entity
    length: Tensor  # int64 [W]: events from the first one to the end of the history


def narrow_columns(side: SideInformation) -> Tensor:
    """Return the columns of `side.matrix()` of all fields that are narrow enough, int64 [P]."""
    spans = [
        torch.arange(field.first, field.end) + (0 if field.categorical else side.tokens)
        for field in side.fields
        if field.end - field.first <= _WIDEST
    ]
    return torch.cat([torch.zeros(0, dtype=torch.int64), *spans])


def narrow_features(side: SideInformation) -> Tensor:
    """Return the `narrow_columns` of all entities of a side, float [E, P]."""
    return side.matrix()[:, narrow_columns(side)]


def event_weights(
    time: Tensor, age: Tensor, real: Tensor, *, decay: Tensor, by_second: Tensor
) -> Tensor:
    """Return the weight of each event of a support, [*, K]; 0 where not `real`.

    Args:
        time: int64 [*, K], microseconds; all 0 without a clock.
        age: [*, K], number of later events.
        real: bool [*, K].
        decay: as in `Design`.
        by_second: as in `Design`.

    """
    clock = ((time != 0) & real).any(-1, keepdim=True) & ~by_second.isnan()
    second = torch.div(time, _SECOND, rounding_mode="floor")
    mine, other = second.unsqueeze(-1), second.unsqueeze(-2)
    twin = (mine == other) & (age.unsqueeze(-2) > age.unsqueeze(-1)) & real.unsqueeze(-2)
    opens = real & ~twin.any(-1)
    later = ((other > mine) & opens.unsqueeze(-2)).sum(-1)
    return torch.where(clock, by_second**later, decay**age) * real


def window_sums(histories: Histories, design: Design, *, window: int, query: int) -> Params:
    """Return the sums of one regression. Sums of parts add up to those of the whole.

    A window's y is the bag of the `query` events that follow its first `window`.

    Returns:
        xx [X, X] and xy [X, I], uncentred; x [B, X], u [B, P] (the user columns of x), y [B, I]
        and w [B], a row for each bucket of offsets.

    """
    n = histories.n_items
    users = narrow_features(histories.users)
    sums = _zeros(n, users.shape[1])
    windows = _windows(histories, design, window, query)
    for part in torch.arange(len(windows.first)).split(_CHUNK):
        bags = _bags(histories, design, Windows(*(c[part] for c in windows)), window, query)
        _add_items(sums, bags)
        if users.shape[1]:
            _add_users(sums, bags, users)
    return _with_content(sums, design.content * narrow_features(histories.items))


class _Bags(NamedTuple):
    """Supports and what followed, weighted; Q query events."""

    entity: Tensor  # int64 [W], ascending
    bucket: Tensor  # int64 [W]
    weight: Tensor  # float [W]
    x: Tensor  # int64 [W, K]
    x_value: Tensor  # float [W, K]
    y: Tensor  # int64 [W, Q]
    y_value: Tensor  # float [W, Q]


def _windows(histories: Histories, design: Design, window: int, query: int) -> Windows:
    """Return the windows of all histories with `_FEW` query events or more."""
    lengths = histories.lengths()
    last = (lengths - window - query).clamp(min=0, max=design.offsets)
    count = torch.where(lengths >= window + _FEW, last // _STEP + 1, 0)
    entity = torch.repeat_interleave(torch.arange(len(count)), count)
    offset = _STEP * (torch.arange(len(entity)) - (count.cumsum(0) - count)[entity])
    return Windows(entity, histories.offsets[entity] + offset, offset, lengths[entity] - offset)


def _bags(histories: Histories, design: Design, windows: Windows, window: int, query: int) -> _Bags:
    age = torch.arange(design.events - 1, -1, -1)
    x = windows.first.unsqueeze(1) + torch.arange(design.events)
    steps = window + torch.arange(query)
    y = (windows.first.unsqueeze(1) + steps).clamp(max=len(histories.item) - 1)
    return _Bags(
        windows.entity,
        torch.bucketize(windows.offset, torch.tensor(EDGES)),
        1 / (1 + windows.offset / design.fade),
        histories.item[x],
        event_weights(
            histories.time[x],
            age.expand(x.shape),
            torch.ones_like(x, dtype=torch.bool),
            decay=torch.tensor(design.decay),
            by_second=torch.tensor(design.by_second),
        ),
        histories.item[y],
        (steps < windows.length.unsqueeze(1)).float(),
    )


def _zeros(n: int, users: int) -> Params:
    buckets = len(EDGES) + 1
    shapes = {
        "ii": (n, n),
        "iu": (n, users),
        "uu": (users, users),
        "iy": (n, n),
        "uy": (users, n),
        "i": (buckets, n),
        "u": (buckets, users),
        "y": (buckets, n),
        "w": (buckets, 1),
    }
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def _add_items(sums: Params, bags: _Bags) -> None:
    weight, bucket = bags.weight.unsqueeze(1), bags.bucket.unsqueeze(1)
    x_value = weight * bags.x_value
    rows, values = bags.x.unsqueeze(2), x_value.unsqueeze(2)
    _add(sums["ii"], rows, bags.x.unsqueeze(1), values * bags.x_value.unsqueeze(1))
    _add(sums["iy"], rows, bags.y.unsqueeze(1), values * bags.y_value.unsqueeze(1))
    _add(sums["i"], bucket, bags.x, x_value)
    _add(sums["y"], bucket, bags.y, weight * bags.y_value)
    _add(sums["w"], bucket, torch.zeros_like(bucket), weight)


def _add_users(sums: Params, bags: _Bags, users: Tensor) -> None:
    # The windows of an entity are summed first, as they share its features.
    entity, place = bags.entity.unique_consecutive(return_inverse=True)
    users, place, weight = users[entity], place.unsqueeze(1), bags.weight.unsqueeze(1)
    buckets = torch.zeros(len(entity), len(EDGES) + 1)
    _add(buckets, place, bags.bucket.unsqueeze(1), weight)
    supports = torch.zeros(len(entity), sums["ii"].shape[1])
    _add(supports, place, bags.x, weight * bags.x_value)
    followed = torch.zeros(len(entity), sums["ii"].shape[1])
    _add(followed, place, bags.y, weight * bags.y_value)
    sums["iu"] += supports.T @ users
    sums["uy"] += users.T @ followed
    sums["u"] += buckets.T @ users
    sums["uu"] += users.T @ (buckets.sum(1, keepdim=True) * users)


def _add(total: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> None:
    """Add `values` at (rows, columns), all broadcast to one shape."""
    where = rows * total.shape[1] + columns
    total.view(-1).index_add_(0, where.flatten(), values.expand(where.shape).flatten())


def _with_content(sums: Params, content: Tensor) -> Params:
    """Return the normal equations of the vector (items, users, items @ content)."""
    xx = torch.cat(
        [torch.cat([sums["ii"], sums["iu"]], 1), torch.cat([sums["iu"].T, sums["uu"]], 1)]
    )
    xy = torch.cat([sums["iy"], sums["uy"]])
    side = xx[:, : len(content)] @ content
    corner = content.T @ side[: len(content)]
    return {
        "xx": torch.cat([torch.cat([xx, side], 1), torch.cat([side.T, corner], 1)]),
        "xy": torch.cat([xy, content.T @ sums["iy"]]),
        "x": torch.cat([sums["i"], sums["u"], sums["i"] @ content], 1),
        "u": sums["u"],
        "y": sums["y"],
        "w": sums["w"].squeeze(1),
    }
