"""What a table of a leaking protocol has to say of itself, wherever it is shown.

Knows names of protocols; does not know how anything is held out.
"""

from collections.abc import Mapping

LEAKS = {
    "leave_last_out": (
        "leaks time: other users' later events are trained on; not comparable with strict"
    )
}
"""Protocol -> what it leaks."""
KEY = "leaks"


def leak_of(protocol: str) -> dict[str, str]:
    """Return the field of a protocol's rows that says what it leaks; {} if it does not."""
    return {KEY: LEAKS[protocol]} if protocol in LEAKS else {}


def told(row: Mapping[str, object]) -> str:
    """Return the sentence that marks the table of a row; an empty text without a leak."""
    return f"This protocol {row[KEY]}." if row.get(KEY) else ""
