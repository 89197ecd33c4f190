"""Training on a cluster: Ray Train workers, and how lane results travel between them.

Not here: the loop itself (`training`). Begin with `driver`, then `workers`.
"""
