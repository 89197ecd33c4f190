"""The sections of an experiment: what each key means and may be.

Knows values and their rules; does not know files, overrides or how anything runs.
"""

from metarec_ray.sections.judging import Bench, BenchLearner, Blending, Evaluate, Kind
from metarec_ray.sections.running import Average, Range, Run, Serve, Sweep, Train

__all__ = [
    "Average",
    "Bench",
    "BenchLearner",
    "Blending",
    "Evaluate",
    "Kind",
    "Range",
    "Run",
    "Serve",
    "Sweep",
    "Train",
]
