"""Verbs as Ray jobs: planned here, sent, followed, listed, stopped, supervised.

Not here: what a verb does, and where a job goes (`engine.cluster.job`). Begin with `submit`.
"""
