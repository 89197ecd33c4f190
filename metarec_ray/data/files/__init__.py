"""Files, local and remote: how they are found, read, written and hashed.

Not here: what a column means. Begin with `paths` and `tables`.
"""
