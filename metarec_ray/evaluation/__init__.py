"""One way to judge every method: protocols, measures, tables, benches, blends.

Not here: Ray, HTTP, pages. Begin with `protocols.strict`, then `scoring` and `table.rows`.
"""
