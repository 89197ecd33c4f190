"""Learners whose adaptation is a formula: posteriors, ridges, Gaussian processes.

Not here: descent. Begin with `bayesian`, the shortest; `windowed_ridge` ranks best.
"""
