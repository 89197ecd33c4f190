"""Whether an endpoint wants new traffic: told by its driver, asked by every replica's probe.

Knows one key of the cluster's own store; does not know routes.
"""

import asyncio

from ray.experimental import internal_kv

KEY, NAMESPACE = b"endpoint-ends", b"metarec"


def withdraw() -> None:
    """Let every replica answer from now on that it is not ready; requests are still answered."""
    internal_kv._internal_kv_put(KEY, b"1", namespace=NAMESPACE)


def offer() -> None:
    """Let replicas answer that they are ready, also where an endpoint ended before."""
    internal_kv._internal_kv_del(KEY, namespace=NAMESPACE)


async def is_ready() -> bool:
    """Return whether new traffic is wanted; asks the head node, in a thread."""
    asked = asyncio.to_thread(internal_kv._internal_kv_exists, KEY, namespace=NAMESPACE)
    return not await asked
