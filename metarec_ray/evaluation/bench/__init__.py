"""Cells of a bench: one method and seed under a protocol, with their provenance.

Not here: which process computes a cell. Begin with `run`, then `protocols` and `lineup`.
"""
