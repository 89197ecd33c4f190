"""One step of the outer loop: a lane's objective, its gradient, the update of the state.

Not here: files, resuming, workers. Begin with `step`, then `objective`.
"""
