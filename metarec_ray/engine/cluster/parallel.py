"""Independent calls in parallel, as Ray tasks of one CPU each.

Does not know what is computed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray


def each(function: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    """Return `function` of every value, in order; a single call runs in this process."""
    if len(values) < 2:
        return [function(value) for value in values]
    shared = ray.put(function)
    return ray.get([_call.remote(shared, value) for value in values])


def as_they_end(function: Callable[[Any], Any], values: Sequence[Any]) -> Iterator[Any]:
    """Yield `function` of every value, in the order in which the calls end."""
    shared = ray.put(function)
    waiting = [_call.remote(shared, value) for value in values]
    while waiting:
        done, waiting = ray.wait(waiting)
        yield from ray.get(done)


@ray.remote(num_cpus=1)
def _call(function: Callable[[Any], Any], value: Any) -> Any:
    return function(value)
