"""Learners. To add one: a class in a module here, its name in the union (docs/extending.md)."""

from typing import Annotated

from pydantic import Field

from metarec_ray.algorithms.base import FittedLearner, Learner, MetaLearner, StatisticalLearner
from metarec_ray.algorithms.bayesian import BayesianHead
from metarec_ray.algorithms.differentiable_ridge import DifferentiableRidge
from metarec_ray.algorithms.eb_ridge import EBRidge
from metarec_ray.algorithms.gaussian_process import GaussianProcessHead
from metarec_ray.algorithms.gradient import Anil, Fomaml, Maml, MetaEmbedding, MetaSgd, Reptile
from metarec_ray.algorithms.in_context import CausalTransformer, PairAttention, Recurrent
from metarec_ray.algorithms.maml_plus_plus import MamlPlusPlus
from metarec_ray.algorithms.metric import MatchingNetwork, PrototypeNetwork
from metarec_ray.algorithms.rivals import (
    Bpr,
    Constant,
    ContentProfile,
    ContentRidge,
    DropoutNet,
    Ease,
    EasePopularity,
    IAls,
    ItemKNN,
    ItemKNNPopularity,
    MfFoldIn,
    Popularity,
    Random,
    RatingUserKNN,
    RecencyPopularity,
    TwoTower,
    UserItemBias,
    UserKNN,
)
from metarec_ray.algorithms.variational import VariationalBayes
from metarec_ray.algorithms.windowed_ridge import WindowedRidge

Gradient = Maml | Fomaml | Anil | MetaSgd | MamlPlusPlus | Reptile | MetaEmbedding
ClosedForm = (
    BayesianHead
    | DifferentiableRidge
    | WindowedRidge
    | EBRidge
    | VariationalBayes
    | GaussianProcessHead
)
Metric = PrototypeNetwork | MatchingNetwork
InContext = CausalTransformer | Recurrent | PairAttention
Floor = Random | Constant
Rival = (
    Popularity
    | RecencyPopularity
    | UserItemBias
    | ItemKNN
    | UserKNN
    | RatingUserKNN
    | Ease
    | EasePopularity
    | ItemKNNPopularity
    | IAls
    | MfFoldIn
    | Bpr
    | ContentRidge
    | ContentProfile
    | TwoTower
    | DropoutNet
)

Algorithm = Annotated[
    Gradient | ClosedForm | Metric | InContext | Floor | Rival, Field(discriminator="name")
]
"""What `algorithm.name` may be."""

__all__ = [
    "Algorithm",
    "BayesianHead",
    "FittedLearner",
    "Learner",
    "MetaLearner",
    "StatisticalLearner",
    "name_of",
]


def name_of(learner: type[Learner]) -> str:
    """Return what `algorithm.name` is for a learner."""
    return learner.model_fields["name"].default
