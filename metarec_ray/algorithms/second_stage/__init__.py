"""A learned second stage: what the best items of a first stage are ordered by, and the order.

Begin with `shortlist.py`, then `features.py`; `rankers` order, `reranker.py` is what is kept.
"""
