"""In-context meta-learners: adapting is one pass of a network over the support, no gradient.

The fast weights are the network's summary of the support: the head's last layer (transformer,
recurrent) or the support's keys and values (pair attention).
"""

from metarec_ray.algorithms.in_context.pair_attention import PairAttention
from metarec_ray.algorithms.in_context.recurrent import Recurrent
from metarec_ray.algorithms.in_context.transformer import CausalTransformer

__all__ = ["CausalTransformer", "PairAttention", "Recurrent"]
