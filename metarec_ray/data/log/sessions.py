"""Histories cut by silence: each session of an entity is a task of its own.

A session is called after its entity and the microsecond it was first cut at:
`alice@1700000000000000`. Knows rows of one bucket; does not know what a session is asked.
"""

import polars as pl

from metarec_ray.data.settings import Data

MARK = "@"
_MICROSECONDS = 1_000_000


def cut(rows: pl.DataFrame, settings: Data) -> pl.DataFrame:
    """Return rows with their session as `entity`, in any order; as they are without a gap.

    `rows` may have a `session`, null where none is known yet (see `known`): what was cut stays cut.
    An event between two old sessions joins the one before it.
    """
    if settings.session_gap is None:
        return rows
    if "session" not in rows.columns:
        rows = rows.with_columns(session=pl.lit(None, pl.String))
    gap = round(settings.session_gap * _MICROSECONDS)
    # Last in its instant, a new event joins what happened then.
    rows = rows.sort("entity", "time", "session", nulls_last=True)
    begins = (pl.col("time").diff() > gap) | (pl.col("entity") != pl.col("entity").shift(1))
    runs = rows.with_columns(run=begins.fill_null(True).cum_sum())
    old = pl.col("session").forward_fill().backward_fill().over("run")
    fresh = (
        pl.col("entity").cast(pl.String) + MARK + pl.col("time").first().over("run").cast(pl.String)
    )
    return runs.with_columns(entity=pl.coalesce(old, fresh)).drop("run", "session")


def known(rows: pl.DataFrame, dtype: pl.DataType) -> pl.DataFrame:
    """Return rows of sessions with their `session`, and whose it is, of that type, as `entity`."""
    return rows.with_columns(session="entity", entity=of(pl.col("entity"), dtype))


def of(session: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return whose a session is."""
    return session.str.replace(f"{MARK}-?\\d+$", "").cast(dtype)
