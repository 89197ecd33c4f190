"""A user's interaction log: found, read in chunks, checked, brought to canonical columns.

Not here: histories and stores. Begin with `sources`, then `reading` and `validate`.
"""
