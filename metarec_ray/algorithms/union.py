"""Every learner and rival, as one union: what `algorithm.name` may be (docs/extending.md)."""

from typing import Annotated

from pydantic import Field

from metarec_ray.algorithms.base import Learner
from metarec_ray.algorithms.closed_form.bayesian import BayesianHead
from metarec_ray.algorithms.closed_form.covariance_tracking import CovarianceTracking
from metarec_ray.algorithms.closed_form.differentiable_ridge import DifferentiableRidge
from metarec_ray.algorithms.closed_form.eb_ridge import EBRidge
from metarec_ray.algorithms.closed_form.gaussian_process import GaussianProcessHead
from metarec_ray.algorithms.closed_form.variational import VariationalBayes
from metarec_ray.algorithms.closed_form.windowed_ridge import WindowedRidge
from metarec_ray.algorithms.gradient.maml import Anil, Fomaml, Maml, MetaSgd, Reptile
from metarec_ray.algorithms.gradient.maml_plus_plus import MamlPlusPlus
from metarec_ray.algorithms.gradient.meta_embedding import MetaEmbedding
from metarec_ray.algorithms.in_context.pair_attention import PairAttention
from metarec_ray.algorithms.in_context.recurrent import Recurrent
from metarec_ray.algorithms.in_context.sasrec import SasRec
from metarec_ray.algorithms.in_context.transformer import CausalTransformer
from metarec_ray.algorithms.metric import MatchingNetwork, PrototypeNetwork, RelationNetwork
from metarec_ray.algorithms.multi_output import MultiOutputHead
from metarec_ray.algorithms.rivals.als import IAls, MfFoldIn
from metarec_ray.algorithms.rivals.biases import UserItemBias
from metarec_ray.algorithms.rivals.blends import EasePopularity, ItemKNNPopularity
from metarec_ray.algorithms.rivals.bpr import Bpr
from metarec_ray.algorithms.rivals.content import ContentProfile, ContentRidge
from metarec_ray.algorithms.rivals.counts import Constant, Popularity, Random, RecencyPopularity
from metarec_ray.algorithms.rivals.dropoutnet import DropoutNet
from metarec_ray.algorithms.rivals.lightgcn import LightGcn
from metarec_ray.algorithms.rivals.neighbours import Ease, ItemKNN
from metarec_ray.algorithms.rivals.sequence_neighbours import SequenceNeighbours
from metarec_ray.algorithms.rivals.two_tower import TwoTower
from metarec_ray.algorithms.rivals.user_knn import RatingUserKNN, UserKNN

Gradient = Maml | Fomaml | Anil | MetaSgd | MamlPlusPlus | Reptile | MetaEmbedding
ClosedForm = (
    BayesianHead
    | DifferentiableRidge
    | WindowedRidge
    | EBRidge
    | VariationalBayes
    | GaussianProcessHead
    | CovarianceTracking
    | MultiOutputHead
)
Metric = PrototypeNetwork | MatchingNetwork | RelationNetwork
InContext = CausalTransformer | Recurrent | PairAttention | SasRec
Floor = Random | Constant
Rival = (
    Popularity
    | RecencyPopularity
    | UserItemBias
    | ItemKNN
    | UserKNN
    | RatingUserKNN
    | SequenceNeighbours
    | Ease
    | EasePopularity
    | ItemKNNPopularity
    | IAls
    | MfFoldIn
    | Bpr
    | LightGcn
    | ContentRidge
    | ContentProfile
    | TwoTower
    | DropoutNet
)

Algorithm = Annotated[
    Gradient | ClosedForm | Metric | InContext | Floor | Rival, Field(discriminator="name")
]
"""What `algorithm.name` may be."""


def name_of(learner: type[Learner]) -> str:
    """Return what `algorithm.name` is for a learner."""
    return learner.model_fields["name"].default
