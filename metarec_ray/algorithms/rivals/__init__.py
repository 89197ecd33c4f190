"""Floors and simple rivals: what a meta-learner has to beat."""

from metarec_ray.algorithms.rivals.als import IAls, MfFoldIn
from metarec_ray.algorithms.rivals.biases import UserItemBias
from metarec_ray.algorithms.rivals.blends import EasePopularity, ItemKNNPopularity
from metarec_ray.algorithms.rivals.bpr import Bpr
from metarec_ray.algorithms.rivals.content import ContentProfile, ContentRidge
from metarec_ray.algorithms.rivals.counts import Constant, Popularity, Random, RecencyPopularity
from metarec_ray.algorithms.rivals.dropoutnet import DropoutNet
from metarec_ray.algorithms.rivals.neighbours import Ease, ItemKNN
from metarec_ray.algorithms.rivals.two_tower import TwoTower
from metarec_ray.algorithms.rivals.user_knn import RatingUserKNN, UserKNN

__all__ = [
    "Bpr",
    "Constant",
    "ContentProfile",
    "ContentRidge",
    "DropoutNet",
    "Ease",
    "EasePopularity",
    "IAls",
    "ItemKNN",
    "ItemKNNPopularity",
    "MfFoldIn",
    "Popularity",
    "Random",
    "RatingUserKNN",
    "RecencyPopularity",
    "TwoTower",
    "UserItemBias",
    "UserKNN",
]
