"""Learners that adapt by gradient descent: the MAML family, MAML++, meta-embeddings.

Not here: the outer loop. Begin with `maml`. `descent` is the inner loop of many tasks at once, with
all derivatives by hand; docs/gradients.md derives them and says which module does what.
"""
