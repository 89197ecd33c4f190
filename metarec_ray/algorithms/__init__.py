"""Learners. To add one: a class in a module here, its name in the union, a row in the battery."""

from typing import Annotated

from pydantic import Field

from metarec_ray.algorithms.base import Learner, MetaLearner, StatisticalLearner
from metarec_ray.algorithms.bayesian import BayesianHead
from metarec_ray.algorithms.gradient import Anil, Fomaml, Maml, MetaSgd, Reptile

Algorithm = Annotated[
    Maml | Fomaml | Anil | MetaSgd | Reptile | BayesianHead, Field(discriminator="name")
]
"""What `algorithm.name` may be."""

__all__ = [
    "Algorithm",
    "Anil",
    "BayesianHead",
    "Fomaml",
    "Learner",
    "Maml",
    "MetaLearner",
    "MetaSgd",
    "Reptile",
    "StatisticalLearner",
]
