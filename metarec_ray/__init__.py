"""Recommenders that know a new user, or a new item, after a handful of events.

Knows only its version; import the part you need (`metarec_ray.inference.recommender`,
`metarec_ray.config.experiment`).
"""

__version__ = "0.1.0"
