"""What sections of settings are made of: their base, and types of text, a path or URI, a date.

Does not know what they are set for.
"""

import re
from datetime import date
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from metarec_ray.data import date_text, times

# After the user name, where it may hold a `/`, or among the options of Azure.
_PASSWORD = re.compile(r"\w+://([^/@?]*:[^@?]*@|[^?]*\?(.*&)?(client_secret|sig)=)")


class Settings(BaseModel):
    """A frozen section of an experiment; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _without_password(path: str) -> str:
    if _PASSWORD.match(path):
        raise ValueError("a URI must not hold a password, which belongs in the environment")
    return path


def _usable(form: str) -> str:
    wrong = date_text.problem(form)
    if wrong is not None:
        raise ValueError(f"{wrong}, got {form!r}")
    return form


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
Place = Annotated[str, AfterValidator(_without_password)]
"""A local path or a URI; never with a password, it is written to manifests and messages."""
TimeFormat = Annotated[str, AfterValidator(_usable)]
"""How dates are written, as strptime has it; each value that fits is one day."""
