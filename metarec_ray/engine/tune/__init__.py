"""Sweeps with Ray Tune.

Not here: how a trial is judged (`evaluation.validation`). Begin with `driver`, then `trial`.
"""
