"""Learners and rivals, one small frozen object each.

Not here: batching, workers, files. Begin with `base` (what a learner answers), then any learner,
say `closed_form.bayesian`; `union` lists them all, and docs/extending.md adds one.
"""
