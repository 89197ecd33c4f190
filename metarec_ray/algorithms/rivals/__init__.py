"""Floors and simple rivals: what a meta-learner has to beat, fitted by sums over histories."""

from metarec_ray.algorithms.rivals.biases import UserItemBias
from metarec_ray.algorithms.rivals.counts import Constant, Popularity, Random, RecencyPopularity
from metarec_ray.algorithms.rivals.eb_ridge import EBRidge
from metarec_ray.algorithms.rivals.neighbours import Ease, ItemKNN
from metarec_ray.algorithms.rivals.windowed_ridge import WindowedRidge

__all__ = [
    "Constant",
    "EBRidge",
    "Ease",
    "ItemKNN",
    "Popularity",
    "Random",
    "RecencyPopularity",
    "UserItemBias",
    "WindowedRidge",
]
