"""Floors and simple rivals: what a meta-learner has to beat.

Not here: which of them stand in a table (`evaluation.rivals`). Begin with `counts`.
"""
