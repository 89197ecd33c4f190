"""Baselines that a meta-learner has to beat: floors and rivals.

Not here: which of them are in a table (`evaluation.rivals`). Begin with `counts`.
"""
