"""What a second stage is told of each item of a shortlist: one vector, from five sources.

Members of the first stage, popularity, people like this one, what follows what, and content. Knows
how they are joined; each source is a module of its own.

Axes: T tasks, C items of a shortlist, M members, X numbers of an item.
"""

import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.content import content, content_features
from metarec_ray.algorithms.second_stage.popularity import popularity, popularity_features
from metarec_ray.algorithms.second_stage.shortlist import Shortlist
from metarec_ray.algorithms.second_stage.transitions import association, transitions
from metarec_ray.algorithms.second_stage.user_groups import group_features, group_ratios
from metarec_ray.core.batch import Params
from metarec_ray.core.histories import Histories
from metarec_ray.core.parameters import under

_SOURCES = ("popularity", "groups", "transitions", "content")
_BACK = 3  # newest events whose followers are looked up
_FARTHEST = -30.0  # behind the best of a list: no log-share is much farther
_SECOND, _MINUTE = 1_000_000, 60_000_000  # microseconds


def item_knowledge(histories: Histories) -> Params:
    """Return what is counted over histories, as `features` reads it; names begin with a source."""
    found = {
        "popularity": popularity(histories),
        "groups": group_ratios(histories),
        "transitions": transitions(histories),
        "content": content(histories.items),
    }
    return {
        f"{source}.{name}": value for source in _SOURCES for name, value in found[source].items()
    }


def features(knowledge: Params, asked: Shortlist, *, as_of: Tensor | None = None) -> Tensor:
    """Return what is known of each item of the shortlists, [T, C, X].

    Args:
        knowledge: as `item_knowledge` returns it.
        asked: the shortlists.
        as_of: popularity on other days than the end of the log, as `popularity_as_of` returns it.

    """
    own = {source: under(f"{source}.", knowledge) for source in _SOURCES}
    return torch.cat(
        [
            _member_features(asked),
            popularity_features(own["popularity"], asked.item, as_of),
            group_features(own["groups"], asked.user, asked.item),
            _order_features(own["transitions"], own["popularity"], asked),
            content_features(own["content"], asked),
            _support_features(own["popularity"], asked),
        ],
        -1,
    )


def _member_features(asked: Shortlist) -> Tensor:
    """Return score and log-rank of the first stage and of each of several members [T, C, *]."""
    rank = torch.log1p(torch.arange(asked.item.shape[1]).float())
    own = torch.stack([asked.behind().clamp(min=_FARTHEST), rank.expand_as(asked.score)], -1)
    if len(asked.parts) == 1:
        return own
    parts = asked.parts.masked_fill(~asked.real, -torch.inf)
    best, order = parts.sort(dim=-1, descending=True, stable=True)
    behind = (parts - best[..., :1]).clamp(min=_FARTHEST).masked_fill(~asked.real, 0.0)
    ranks = torch.empty_like(parts).scatter_(-1, order, rank.expand_as(parts))
    return torch.cat([own, torch.cat([behind, ranks]).movedim(0, -1)], -1)


def _order_features(transition: Params, popularity: Params, asked: Shortlist) -> Tensor:
    """Return what follows the newest events, and how much later than the newest an item comes."""
    newest, known = asked.newest(_BACK)
    told = association(transition, newest.unsqueeze(-1), asked.item.unsqueeze(1))  # [W, T, back, C]
    told = (told * known.unsqueeze(-1)).permute(1, 3, 2, 0).flatten(2)
    position = popularity["position"]
    later = (position[asked.item] - position[newest[:, :1]]) * known[:, :1]
    return torch.cat([told, later.unsqueeze(-1)], -1)


def _support_features(popularity: Params, asked: Shortlist) -> Tensor:
    """Return what all items of a list share: how popular, how fast, how long [T, C, 4]."""
    usual = (popularity["log_count"][asked.support] * asked.share()).sum(1, keepdim=True)
    gaps = asked.time.diff(dim=1, prepend=asked.time[:, :1]).clamp_(min=0).mul_(asked.mask)
    newest = gaps.gather(1, (asked.events() - 1).clamp_(min=0).unsqueeze(1))
    minutes = (torch.cat([gaps.sum(1, keepdim=True), newest], 1) / _MINUTE).log1p_()
    told = torch.cat([usual, (gaps >= _SECOND).sum(1, keepdim=True), minutes], 1)
    return told.unsqueeze(1).expand(-1, asked.item.shape[1], -1)
