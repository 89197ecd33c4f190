"""How a second stage is fitted: on what first stages say of entities they have not seen.

Begin with `fit.py`; `experiments.py` says which fits there are, `shortlists.py` what is learned
from.
"""
