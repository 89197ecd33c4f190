"""A guessed setting with its reason and its other readings; a tree of them is a section of YAML.

Does not know what is guessed.
"""

from collections.abc import Iterator
from typing import NamedTuple


class Finding(NamedTuple):
    """A guessed value.

    Attributes:
        value: as a configuration holds it; `ABSENT` leaves the key out, `FILL` asks for it.
        why: the reason, in a word.
        others: other readings of the same key, and when they are right.

    """

    value: object
    why: str = ""
    others: tuple[tuple[object, str], ...] = ()


class Mark(NamedTuple):
    """Something that stands where a value would."""

    name: str


ABSENT, FILL = Mark("absent"), Mark("fill")
Tree = dict[str, "Finding | Tree"]


def plain(tree: Tree) -> dict[str, object]:
    """Return the values that are settled, as a section of a configuration."""
    found: dict[str, object] = {}
    for key, branch in tree.items():
        value = plain(branch) if isinstance(branch, dict) else branch.value
        if not isinstance(value, Mark):
            found[key] = value
    return found


def leaves(tree: Tree, above: str = "") -> Iterator[tuple[str, Finding]]:
    """Yield the dotted key of each finding, and the finding."""
    for key, branch in tree.items():
        if isinstance(branch, dict):
            yield from leaves(branch, f"{above}{key}.")
        else:
            yield above + key, branch
