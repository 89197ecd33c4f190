"""Names for the columns of a file that has none, by what the columns mean.

Knows roles and columns `column_N`; does not know values.
"""

from collections.abc import Mapping, Sequence

from metarec_ray.data.guess.finding import Finding, Mark, Tree

_CALLED = {"entity": "user", "item": "item", "label": "rating", "event": "event", "time": "time",
           "sequence": "row", "domain": "domain"}  # fmt: skip


def name(columns: Sequence[str], roles: Tree) -> tuple[Finding, Tree]:
    """Return the setting `names`, other readings of it included, and the roles by these names."""
    held = {
        role: str(one.value)
        for role, one in roles.items()
        if isinstance(one, Finding) and not isinstance(one.value, Mark)
    }
    names = _names(columns, held)
    others: dict[tuple[str, ...], str] = {}
    for role, one in roles.items():
        for other, when in one.others if isinstance(one, Finding) and role in held else ():
            others.setdefault(tuple(_names(columns, _exchanged(held, role, str(other)))), when)
    said = "the file has no names, these are by content and order"
    readings = tuple((list(other), when) for other, when in others.items())
    return Finding(names, said, readings), _renamed(
        roles, held, dict(zip(columns, names, strict=True))
    )


def _names(columns: Sequence[str], held: Mapping[str, str]) -> list[str]:
    called = {column: _CALLED[role] for role, column in held.items()}
    return [called.get(column, column) for column in columns]


def _exchanged(held: Mapping[str, str], role: str, other: str) -> dict[str, str]:
    """Return the roles with `other` in this one; a role that it had takes the old column."""
    swapped = {one: held[role] for one, column in held.items() if column == other}
    return {**held, **swapped, role: other}


def _renamed(roles: Tree, held: Mapping[str, str], new: Mapping[str, str]) -> Tree:
    """Return the roles with the columns' new names, without the readings that `names` tells."""
    found: Tree = {}
    for role, one in roles.items():
        assert isinstance(one, Finding)
        if role in held:
            number = str(one.value).removeprefix("column_")
            found[role] = Finding(new[str(one.value)], f"column {number}: {one.why}")
        else:
            found[role] = one
    return found
