"""What lies in a run's folder beside its checkpoints, and which of these stay.

Not here: what is trained, and the checkpoints themselves (`checkpoint`). Begin with `metrics_log`.
"""
