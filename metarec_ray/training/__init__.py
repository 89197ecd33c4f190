"""Meta-training without Ray: one meta-step, the loop around it, fits on whole histories.

Not here: where lanes are computed; learners are handed in. Begin with `trainer`, then `meta_step`.
"""
