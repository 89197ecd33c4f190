"""Sweeps with Ray Tune.

Not here: what a trial is judged by (`evaluation.validation`). Begin with `driver`, then `trial`.
"""
