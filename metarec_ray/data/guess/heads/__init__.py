"""Heads of files: bytes become text, text becomes a table of its first rows.

Not here: what a column means. Begin with `table`.
"""
