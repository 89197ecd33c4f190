"""Every encoder, as one union: what `model.encoder` may be (docs/extending.md)."""

from typing import Annotated

from pydantic import Field

from metarec_ray.models.encoders.film import Film
from metarec_ray.models.encoders.mlp import Mlp
from metarec_ray.models.encoders.token_sum import TokenSum

AnyEncoder = Annotated[TokenSum | Mlp | Film, Field(discriminator="name")]
