"""Task stores built with Ray Data, and the store of an experiment brought up to date.

Not here: what a unit of work does (`data.store.stages`). Begin with `driver`.
"""
