"""Where files lie and how they are read and written: paths, URIs, tables, Parquet, hashes.

Not here: what a column means. Begin with `paths` and `tables`.
"""
