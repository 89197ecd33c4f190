"""Learners that adapt in one pass of a network over the support, without a gradient.

Not here: encoders. Begin with `shared` (events as tokens), then `transformer`.
"""
