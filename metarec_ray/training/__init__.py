"""Meta-training without Ray: runs as segments, the trainer, fits on whole histories.

Not here: how lanes reach workers. Begin with `segments` (the loop), then `trainer` and `meta_step`.
"""
