"""Encoders: from what is known of a user, an item or a context to a vector.

Not here: ids, which `models.towers` adds; the head. Begin with `base`, then `token_sum`; `union`
lists them all, and docs/extending.md adds one.
"""
