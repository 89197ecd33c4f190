"""What predictions are worth, how sure that is, and the table of it as text.

Not here: where predictions come from. Begin with `rows`, then `ranking_measures`.
"""
