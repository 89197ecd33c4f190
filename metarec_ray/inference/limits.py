"""What the recommender and its endpoint both limit.

Imports nothing: a client of the endpoint reads it without loading torch.
"""

MAX_SUPPORT = 200
"""Events of a support set."""
