"""The tasks of each protocol, cut from a store.

Not here: metrics. Begin with `strict`; `ratings`, `item_kshot` and `cross_domain`
are built alike.
"""
