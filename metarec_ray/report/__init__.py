"""The HTML report of a run: one file that needs no network.

Not here: how anything is computed. Begin with `write`.
"""
