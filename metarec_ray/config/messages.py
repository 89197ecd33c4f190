"""From pydantic's error lists to the one sentence a user reads.

Knows pydantic's error types; does not know any section.
"""

import json

from pydantic import ValidationError

SIGNS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}


UNIONS = (("algorithm",), ("model", "encoder"), ("train", "loss"), ("second_stage", "ranker"))
"""Sections whose `name` decides which other keys they have."""


def sentence(error: ValidationError, place: str) -> str:
    """Return the first error as `key must be RULE, got VALUE (PLACE: key)`; count the others."""
    errors = error.errors(include_url=False)
    first = errors[0]
    key = _dotted(first["loc"])
    more = f"; and {len(errors) - 1} more" if len(errors) > 1 else ""
    if not key:  # a rule of the whole experiment names its keys itself
        return f"{first.get('ctx', {}).get('error', first['msg'])} ({place}{more})"
    return f"{_rule(first, key)} ({place}: {key}{more})"


def _dotted(loc: tuple[int | str, ...]) -> str:
    parts = [str(part) for part in loc]
    # A member of a discriminated union adds its tag to the path; a user never wrote it.
    for union in UNIONS:
        if len(parts) > len(union) + 1 and tuple(parts[: len(union)]) == union:
            del parts[len(union)]
    return ".".join(parts)


def _rule(error, key: str) -> str:
    kind, context = error["type"], error.get("ctx", {})
    value = _shown(error["input"])
    if kind == "extra_forbidden":
        return f"{key} is not a known key"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        known = context.get("expected_tags", "the known names")
        return f"{key}.name must be one of {known}, got {_shown(context.get('tag'))}"
    if kind in SIGNS:
        sign, limit = SIGNS[kind]
        return f"{key} must be {sign} {context[limit]:g}, got {value}"
    if kind == "literal_error":
        return f"{key} must be one of {context['expected']}, got {value}"
    if kind == "value_error":
        return f"{key}: {context['error']}"
    return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}, got {value}"


def _shown(value: object) -> str:
    try:
        text = json.dumps(value, default=str)
    except (TypeError, ValueError, RecursionError):  # keys of other types, or a circle
        text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
