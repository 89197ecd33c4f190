"""Read a task store as tensors, and cut training tasks from its histories.

Not here: how a store is written, learners. Begin with `task_store`, then `lanes`.
"""
