import pytest

from metarec_ray.algorithms.in_context.transformer import CausalTransformer
from metarec_ray.errors import ConfigError
from tests.unit.algorithms.in_context.small import parameters


def test_heads_that_do_not_share_the_dimensions_evenly_are_refused():
    with pytest.raises(ConfigError, match=r"multiple of heads, got 4 and 3 \(algorithm.heads\)"):
        parameters(CausalTransformer(heads=3))
