"""Training on a cluster: what an experiment asks for, and Ray Train workers.

Not here: the loop itself (`training`). Begin with `driver`, then `workers`.
"""
