"""What people ask of data before a run: what a log holds, what a store holds.

Not here: anything that a run needs. Begin with `check` (a log) or `describe` (a store).
"""
