"""Write a task store: bucket by bucket, each version published in one step.

Not here: Ray, which distributes the units of work; the reader of a store (`data.tasks`). Begin with
`pipeline`, then `stages`, `bucket_rows` and `versions`.
"""
