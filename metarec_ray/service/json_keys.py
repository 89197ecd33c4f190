"""Which key of a JSON document stands twice in its object.

Knows JSON; does not know what a document means. Parsers keep the last of two equal keys in silence.
"""

import json
from typing import Any

Place = tuple[str | int, ...]


class _Twice(dict[str, Any]):
    """An object that had a key twice."""

    key = ""


def said_twice(document: bytes | bytearray | str) -> Place | None:
    """Return where the first key lies that its object has twice, None if there is none.

    The document must be valid JSON.

    >>> said_twice('{"a": [{"b": 1, "b": 2}]}')
    ('a', 0, 'b')
    """
    found = []

    def content(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        twice = _Twice(made)
        names = [name for name, _ in pairs]
        twice.key = next(name for at, name in enumerate(names) if name in names[:at])
        found.append(twice)
        return twice

    tree = json.loads(document, object_pairs_hook=content)
    # What lies below a value that a later one replaced is not in the tree: the later one is.
    return _place(tree, ()) if found else None


def _place(tree: Any, at: Place) -> Place | None:
    if isinstance(tree, _Twice):
        return (*at, tree.key)
    if not isinstance(tree, dict | list):
        return None
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return next(
        (place for key, one in parts if (place := _place(one, (*at, key))) is not None), None
    )
