"""The reader: histories and the catalogue as tensors, and the tasks that are cut from them.

Not here: how a store is made, what learns. Begin with `task_store`, then `lanes`.
"""
