"""A learned second stage: what the best items of a first stage are ordered by, and the order.

Begin with `shortlist.py`, then `features.py`; `ranking_net.py` orders, `fitting.py` fits it.
"""
