"""Limits that the recommender and its endpoint share.

Imports nothing, so that a client of the endpoint need not load torch.
"""

MAX_SUPPORT = 200
"""Most events of a support set."""
