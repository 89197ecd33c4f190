"""Ray tasks: independent calls of a fit beside each other.

Knows one `map`; does not know what is fitted.
"""

from collections.abc import Callable, Sequence
from typing import Any

import ray


def each(function: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    """Return `function` of every value, in order; a CPU a call, one call stays in this process."""
    if len(values) < 2:
        return [function(value) for value in values]
    shared = ray.put(function)
    return ray.get([_call.remote(shared, value) for value in values])


@ray.remote(num_cpus=1)
def _call(function: Callable[[Any], Any], value: Any) -> Any:
    return function(value)
