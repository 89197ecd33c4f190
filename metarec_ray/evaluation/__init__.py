"""How every method is judged: protocols, metrics, tables, benches, blends.

Not here: Ray, HTTP, pages. Begin with `protocols.strict`, then `scoring` and `table.rows`.
"""
