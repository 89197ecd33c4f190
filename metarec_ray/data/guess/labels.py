"""What an event says: a rating, a click or none, a kind of event, a strength; the feedback.

Knows the columns of a log's head; does not know which are user and item.
"""

from collections.abc import Collection, Sequence

from metarec_ray.data.guess import words
from metarec_ray.data.guess.columns import Column
from metarec_ray.data.guess.finding import ABSENT, Finding, Tree

KINDS, LEVELS = 30, 21  # most kinds of events, most values of a rating without a name
_ZEROS = 0.05  # share of zeros among ratings from which they are taken for none


def find(
    columns: Sequence[Column], *, are_named: bool, fixed: Collection[str] = ()
) -> tuple[Tree, Tree]:
    """Return the roles `label` and `event`, and the settings that go with them.

    Columns that are `fixed` for an item say nothing about an event.
    """
    columns = [one for one in columns if one.name not in fixed]
    rated = [one for one in columns if _is_rating(one, named=are_named)]
    clicks = [one for one in columns if _is_click(one, named=are_named)]
    strong = [one for one in columns if _is_strength(one) and one not in (*rated, *clicks)]
    for one in columns:
        if _is_event(one, named=are_named):
            weights = _weights(one)
            if any(not isinstance(w, dict) and w.value is not ABSENT for w in weights.values()):
                return _of_events(one, weights, [*rated, *clicks])
    if rated:
        return _of_ratings(rated)
    if clicks:
        return _of_clicks(clicks)
    return _of_visits(columns, strong)


def _of_events(one: Column, weights: Tree, others: Sequence[Column]) -> tuple[Tree, Tree]:
    roles: Tree = {
        "event": Finding(one.name, f"{one.distinct} kinds of events, with the usual weights")
    }
    if others:
        when = "instead of `event`, with feedback: explicit and without event_weights"
        roles["label"] = Finding(ABSENT, "", tuple((c.name, when) for c in others))
    feedback = Finding(
        "implicit", "events", (("explicit", "if their weights are to be predicted"),)
    )
    return roles, {"feedback": feedback, "event_weights": weights}


def _of_ratings(rated: Sequence[Column]) -> tuple[Tree, Tree]:
    one, *others = rated
    low, high = one.range
    said = f"{one.distinct} ratings from {low:g} to {high:g}"
    zeros = dict(one.counts).get("0", 0) / max(len(one.values), 1)
    feedback = Finding("explicit", said, (("implicit", "if what was rated at all is the signal"),))
    why = "by its name" if _fits(one, "label") else f"{one.distinct} values in order, as of ratings"
    label = Finding(one.name, why, tuple((c.name, f"{c.distinct} ratings") for c in others))
    more: Tree = {"feedback": feedback}
    if zeros >= _ZEROS and low == 0 and high >= 4:
        why = f"{zeros:.0%} of the ratings are 0, which then mean none"
        smallest = min(float(v) for v, _ in one.counts if float(v) > 0) if one.counts else 1.0
        more["label_min"] = Finding(smallest, why, ((None, "if 0 is the worst rating"),))
    return {"label": label}, more


def _of_clicks(clicks: Sequence[Column]) -> tuple[Tree, Tree]:
    one, *others = clicks
    share = dict(one.counts).get("1", 0) / max(len(one.values), 1)
    rivals = tuple((c.name, "0 and 1 too") for c in others)
    feedback = Finding("binary", f"{share:.0%} of the rows are 1, the others 0")
    return {"label": Finding(one.name, "by its name, 0 or 1", rivals)}, {"feedback": feedback}


def _of_visits(columns: Sequence[Column], strong: Sequence[Column]) -> tuple[Tree, Tree]:
    unknown = [one for one in columns if _fits(one, "event") and 1 < one.distinct <= KINDS]
    roles: Tree = {}
    rated = [one for one in columns if _is_rating(one, named=False) and not _fits(one, "context")]
    if rated and not strong:
        when = "if these are ratings, with feedback: explicit"
        roles["label"] = Finding(ABSENT, "", tuple((one.name, when) for one in rated))
    if strong:
        when = "with label_min, which keeps the strong ones: {:g} to {:g}"
        roles["label"] = Finding(
            ABSENT, "", tuple((one.name, when.format(*one.range)) for one in strong)
        )
    more: Tree = {"feedback": Finding("implicit", "every row is a positive")}
    for one in unknown[:1]:
        roles["event"] = Finding(ABSENT, "", ((one.name, "with event_weights"),))
        more["event_weights"] = _weights(one)
    if not strong and not unknown:
        more["feedback"] = Finding("implicit", "no rating, no click: every row is a positive")
    return roles, more


def _weights(one: Column) -> Tree:
    """Return the weight of each kind of event; of kinds that nobody knows as a comment."""
    found: Tree = {}
    for kind, count in one.counts:
        weight = words.weight(kind)
        said = f"{count:,} of {len(one.values):,} rows"
        if weight is None:
            found[kind] = Finding(ABSENT, "", ((1.0, f"{said}; left out without a weight"),))
        else:
            found[kind] = Finding(weight, said)
    return found


def _fits(one: Column, role: str) -> bool:
    return words.fit(one.name, role) > 1 and words.fit(one.name, "outcome") < 2


def _is_rating(one: Column, *, named: bool) -> bool:
    if not one.is_numeric or one.distinct < 2:
        return False
    if named:
        return _fits(one, "label")
    low, high = one.range
    return 3 <= one.distinct <= LEVELS and low >= 0 and high <= 10 and _are_halves(one)


def _are_halves(one: Column) -> bool:
    return all((2 * float(value)).is_integer() for value, _ in one.counts)


def _is_click(one: Column, *, named: bool) -> bool:
    zero_one = {value for value, _ in one.counts} == {"0", "1"} and one.is_numeric
    return zero_one and (not named or _fits(one, "click"))


def _is_strength(one: Column) -> bool:
    return one.is_numeric and one.distinct > 1 and _fits(one, "strength")


def _is_event(one: Column, *, named: bool) -> bool:
    if one.kind != "text" or not one.counts or one.distinct > KINDS:
        return False
    known = sum(words.weight(kind) is not None for kind, _ in one.counts)
    return _fits(one, "event") if named else known >= max(1, one.distinct / 2)
