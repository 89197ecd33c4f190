"""Training without Ray: one meta-step, the loop around it, fits on whole histories.

Not here: learners, and processes beside this one. Begin with `trainer` and `segments`, then
`meta_step`.
"""
