"""How a store of tasks is made: bucket by bucket, version by version, whole or not at all.

Not here: Ray, which spreads the units of work; readers of a store. Begin with `pipeline`, then
`stages`, `bucket_rows` and `versions`.
"""
