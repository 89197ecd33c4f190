"""Learners that adapt in closed form: posteriors, ridge regressions, Gaussian processes.

Not here: gradient descent. Begin with `bayesian`, the shortest; `windowed_ridge` ranks best.
"""
