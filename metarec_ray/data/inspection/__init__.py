"""Reports for people: what a log contains, what a store contains.

Not here: anything that a run needs. Begin with `check` (a log) or `describe` (a store).
"""
