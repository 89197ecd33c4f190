"""Rows: logs, data sets, the synthetic model, task stores, lanes of tasks."""
