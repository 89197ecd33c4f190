"""Small histories and the calls of a learner, shared by the tests of this folder."""

import torch
from torch import Tensor

from metarec_ray.algorithms.base import FittedLearner
from metarec_ray.algorithms.problem import (
    EncodedItems,
    Support,
    encode_candidates,
    encode_support,
    no_problem,
    unencoded,
)
from metarec_ray.core.batch import Encoded, Features, FieldSpan, Params, SideInformation
from metarec_ray.core.histories import Histories
from metarec_ray.data.settings import Feedback
from tests.unit.small_histories import histories_of

DAY = 86_400_000_000


def histories(*events: list[tuple[int, float]], n_items: int, clock: bool = False) -> Histories:
    """One list of (item, label) an entity; with a clock entity e begins on day e."""
    days = [day for day, history in enumerate(events) for _ in history]
    return histories_of(
        [[item for item, _ in history] for history in events],
        n_items=n_items,
        label=[label for history in events for _, label in history],
        time=[day * DAY * clock for day in days],
        cutoff=len(events) * DAY if clock else None,
    )


def clicks(*items: list[int], n_items: int, clock: bool = False) -> Histories:
    events = [[(item, 1.0) for item in history] for history in items]
    return histories(*events, n_items=n_items, clock=clock)


def tastes(users: int = 60, items: int = 24, length: int = 8, *, clock: bool = False) -> Histories:
    """Histories of distinct items, most of them from the user's half of the catalogue."""
    generator = torch.Generator().manual_seed(3)
    lists = []
    for user in range(users):
        mine = torch.arange(items) % 2 == user % 2
        order = torch.rand(items, generator=generator) - 0.7 * mine
        lists.append(order.argsort()[:length].tolist())
    return clicks(*lists, n_items=items, clock=clock)


def ratings(users: int = 60, items: int = 12, seed: int = 0) -> Histories:
    """Ratings 3 + item bias + taste . content + noise of 0.3, of six tenths of all pairs."""
    generator = torch.Generator().manual_seed(seed)
    taste = torch.randn(users, 2, generator=generator)
    content = torch.randn(items, 2, generator=generator)
    noise = 0.3 * torch.randn(users, items, generator=generator)
    label = 3 + 0.5 * content[:, :1].T + taste @ content.T + noise
    met = torch.rand(users, items, generator=generator) < 0.6
    rows = [
        [(i, label[u, i].item()) for i in met[u].nonzero().flatten().tolist()] for u in range(users)
    ]
    dense = SideInformation(
        Features(torch.zeros(items, 1, dtype=torch.int64), torch.zeros(items, 1), content),
        (FieldSpan("content", False, 0, 2),),
        1,
    )
    return histories(*rows, n_items=items)._replace(items=dense)


def support(*events: tuple[int, float], padding: int = 0) -> Encoded:
    """Events of one task without encoded vectors; what padding holds must not matter."""
    n = len(events) + padding
    item = torch.tensor([item for item, _ in events] + [1] * padding, dtype=torch.int64)
    return encode_support(
        Support(
            EncodedItems(item, torch.zeros(n, 0), torch.zeros(n), torch.arange(len(item))),
            torch.zeros(n, 0),
            torch.tensor([label for _, label in events] + [9.0] * padding),
            torch.arange(n) < len(events),
            torch.zeros(n, dtype=torch.int64),
        ),
        torch.zeros(0),
    )


def liked(*items: int, padding: int = 0) -> Encoded:
    return support(*[(item, 1.0) for item in items], padding=padding)


def scores(
    learner: FittedLearner, meta: Params, given: Encoded, feedback: Feedback = "implicit"
) -> Tensor:
    """Score the whole catalogue, whose size is that of the longest table of items."""
    names = ("item", "met", "content", "popularity", "similarity", "scores")
    n_items = max(len(meta[name]) for name in names if name in meta)
    problem = no_problem(feedback)
    fast = learner.adapt(problem, meta, given)
    candidates = encode_candidates(unencoded(n_items), given.user, torch.zeros(1, 0))
    return learner.score(problem, meta, fast, candidates)
