"""Independent calls in parallel, as Ray tasks of one CPU each.

Knows which nodes see the files that calls read and write; does not know what is computed.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from metarec_ray.storage.places import located


def each(
    function: Callable[[Any], Any], values: Sequence[Any], *, folder: Path | None = None
) -> list[Any]:
    """Return `function` of every value, in order; a single call runs in this process.

    With a `folder` that calls read or write, they run where it is seen.
    """
    if len(values) < 2:
        return [function(value) for value in values]
    shared = ray.put(function)
    call = _call.options(**where(folder))
    return ray.get([call.remote(shared, value) for value in values])


def as_they_end(
    function: Callable[[Any], Any], values: Sequence[Any], *, folder: Path | None = None
) -> Iterator[Any]:
    """Yield `function` of every value, in the order in which the calls end; `folder` as `each`."""
    shared = ray.put(function)
    call = _call.options(**where(folder))
    waiting = [call.remote(shared, value) for value in values]
    while waiting:
        done, waiting = ray.wait(waiting)
        yield from ray.get(done)


def where(folder: Path | None) -> dict[str, Any]:
    """Return Ray's options of a task that reads or writes a folder.

    A working copy is a folder of one node; what is computed in it is computed there.
    """
    if folder is None or located(folder).uri is None:
        return {}
    own = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(own, soft=False)}


@ray.remote(num_cpus=1)
def _call(function: Callable[[Any], Any], value: Any) -> Any:
    return function(value)
