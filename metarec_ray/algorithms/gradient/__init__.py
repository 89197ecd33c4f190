"""Learners that adapt by gradient descent: the MAML family, MAML++, meta-embeddings.

Not here: the outer loop. Begin with `maml`; `descent` is its batched form, the descent of many
heads at once with the derivatives by hand (docs/gradients.md).
"""
