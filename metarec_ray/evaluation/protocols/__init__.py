"""Who is judged on what: the tasks of each protocol, cut from a store.

Not here: metrics. Begin with `strict`; `ratings`, `item_kshot`, `cross_domain` follow its shape.
"""
