"""Types of settings that are text: a path or URI, a date or time.

Does not know what they are set for.
"""

import os
import re
from datetime import date
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from metarec_ray.data import times

# After the user name, where it may hold a `/`, or among the options of Azure.
_PASSWORD = re.compile(r"\w+://([^/@?]*:[^@?]*@|[^?]*\?(.*&)?(client_secret|sig)=)")


def _place(path: str) -> str:
    if _PASSWORD.match(path):
        raise ValueError("a URI must not hold a password, which belongs in the environment")
    return os.path.expanduser(path)


def _moment(value: object) -> str:
    text = value.isoformat() if isinstance(value, date) else value
    try:
        times.instant(str(text), "UTC")
    except ValueError:
        raise ValueError(
            f"a date or a time is needed, as 2024-05-31T12:00, got {value!r}"
        ) from None
    return str(text)


Moment = Annotated[str, BeforeValidator(_moment)]
"""A date or time as text; in the zone of the log if it names none."""
Place = Annotated[str, AfterValidator(_place)]
"""A local path, from `~` the home folder, or a URI; never with a password: it is in manifests."""
