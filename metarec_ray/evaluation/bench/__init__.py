"""Cells of a bench: one method and seed under a protocol, with what made it.

Not here: which process computes a cell. Begin with `run`, then `protocols` and `lineup`.
"""
