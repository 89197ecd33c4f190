"""Data sets that are known by name: their layouts, where they are fetched, the synthetic log.

Not here: logs of a user's own, which need no layout. Begin with `layouts` and `synthetic`.
"""
