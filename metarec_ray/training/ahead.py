"""What comes next, made in the background while the present is used.

Knows one function and its arguments; does not know what is made.
"""

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Calls a pure function one call ahead, in a thread of its own."""

    def __init__(self, make: Callable[..., T]):
        self._make, self._pool = make, ThreadPoolExecutor(1, "ahead")
        self._waiting: dict[tuple[Hashable, ...], Future[T]] = {}

    def take(self, *asked: Hashable, then: tuple[Hashable, ...] | None) -> T:
        """Return what `asked` makes, and begin to make what `then` will; None for nothing.

        What another call than the last one's `then` asks for is made now.
        """
        found = self._waiting.pop(asked, None)
        self._waiting.clear()
        if then is not None:
            self._waiting[then] = self._pool.submit(self._make, *then)
        return self._make(*asked) if found is None else found.result()
