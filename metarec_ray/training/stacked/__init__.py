"""Runs that differ in rates alone, trained together: a stack.

Not here: which trials of a sweep share one. Begin with `stack`, then `step`.
"""
