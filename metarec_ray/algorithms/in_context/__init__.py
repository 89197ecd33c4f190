"""Learners that adapt by one forward pass of a network over the support.

Not here: encoders of users and items. Begin with `shared` (events as tokens), then `transformer`;
`sasrec` reads item ids alone and learns from whole histories (`next_items`).
"""
