"""Metrics of predictions, their uncertainty, and the table as text.

Not here: where predictions come from. Begin with `rows`, then `ranking_measures`.
"""
