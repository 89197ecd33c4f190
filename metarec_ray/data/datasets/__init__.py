"""Data sets known by name: their file layouts, how they are fetched, and the synthetic log.

Not here: any other log, whose columns the config names. Begin with `layouts` and `synthetic`.
"""
