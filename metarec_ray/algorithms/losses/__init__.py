"""Losses of a set of events: what descent on a support and the outer loop on a query minimise.

Not here: metrics, which are only shown. Begin with `base`, then `labels` (ratings, clicks) and
`choices` (positives among items); `union` lists them all, and docs/extending.md adds one.
"""
