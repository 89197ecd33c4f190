"""Experiment tracking: runs, trials and cells as MLflow and TensorBoard show them.

Not here: what a run's folder holds, which is the truth that all of this is told from
(`training.run_folder`). Begin with `tracking`, then `delivery`.
"""
