"""Products and factors of matrices that learners are made of, exact and sparing of memory.

Not here: heads and losses. Begin with `spd`, symmetric positive definite systems.
"""
