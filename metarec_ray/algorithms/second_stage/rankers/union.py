"""All rankers: what `second_stage.ranker.name` may be."""

from typing import Annotated

from pydantic import Field

from metarec_ray.algorithms.second_stage.rankers.boosted_trees import BoostedTrees
from metarec_ray.algorithms.second_stage.rankers.networks import Networks

AnyRanker = Annotated[Networks | BoostedTrees, Field(discriminator="name")]
