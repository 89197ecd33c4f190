"""What orders a shortlist by the features of its items, and how each is fitted.

Begin with `base.py`, then `listwise.py`; `union.py` lists them all.
"""
