"""Recommenders that know a new user, or a new item, after a handful of events.

Knows only its version; import the part you need (`metarec_ray.recommender`, `metarec_ray.config`).
"""

__version__ = "0.1.0"
