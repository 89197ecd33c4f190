"""A prefetcher: computes the next value in the background while the present one is used.

Does not know what is computed.
"""

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Calls a pure function one call early, in a thread of its own."""

    def __init__(self, make: Callable[..., T]):
        self._make, self._pool = make, ThreadPoolExecutor(1, "prefetch")
        self._pending: dict[tuple[Hashable, ...], Future[T]] = {}

    def get(self, *arguments: Hashable, following: tuple[Hashable, ...] | None) -> T:
        """Return `make(*arguments)` and start `make(*following)` in the background, if any.

        If the last call announced other arguments, the value is computed now.
        """
        prefetched = self._pending.pop(arguments, None)
        self._pending.clear()
        if following is not None:
            self._pending[following] = self._pool.submit(self._make, *following)
        return self._make(*arguments) if prefetched is None else prefetched.result()
