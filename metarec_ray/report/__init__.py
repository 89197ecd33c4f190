"""The HTML report of a run: one file that needs no network."""

from metarec_ray.report.write import write_report

__all__ = ["write_report"]
