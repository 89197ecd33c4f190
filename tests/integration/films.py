"""A checkpoint of untrained parameters over a catalogue of films: what serving is tested on."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from metarec_ray import checkpoint as checkpoints
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.parameters import split, values
from metarec_ray.data.fields import FeatureField
from metarec_ray.data.tasks.features import FeatureSpace
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.towers import Sides
from metarec_ray.training.trainer import meta_learner

GENRE = FeatureField(name="genre", kind="categorical", size=3)
FIELDS: dict[str, list[FeatureField]] = {"user": [], "item": [GENRE], "context": []}


def write_films(path: Path, *, items: int = 40, dim: int = 8) -> Path:
    """Write a checkpoint whose items are `f0`, `f1`, ... and return its path."""
    experiment = Experiment.model_validate({"model": {"dim": dim}, "serve": {"name": "films"}})
    spaces = {side: FeatureSpace(fields) for side, fields in FIELDS.items()}
    user, item, context = (Side(space.tokens, space.dense) for space in spaces.values())
    sizes = Sides(user, item, context, users=1, items=items)
    dense, tables = split(experiment.model.init(sizes, torch.Generator().manual_seed(0)))
    reference = min(items, 20)
    buffers = {
        "offset": torch.linspace(1, 0, items),
        "reference.items": torch.arange(reference),
        "reference.log_q": torch.zeros(reference),
        "catalogue_size": torch.tensor(float(items)),
        "trained": torch.ones(items, dtype=torch.bool),
    }
    content = Checkpoint(
        model=dense
        | values(meta_learner(experiment).init(dense, torch.Generator()))
        | tables
        | {f"buffer.{name}": value for name, value in buffers.items()},
        optimizer={},
        config=json.loads(experiment.model_dump_json()),
        schema={
            "feedback": "implicit",
            "features": {side: [f.model_dump() for f in fields] for side, fields in FIELDS.items()},
            "vocabularies": {"user": {}, "item": {"genre": ["a", "b", "c"]}, "context": {}},
        },
        metrics={},
        state={"step": 0, "seed": 0, "store_sha256": "0" * 64},
        catalogue=_catalogue(items),
    )
    checkpoints.save(content, path)
    return path


def _catalogue(items: int) -> bytes:
    columns = {
        "item": pa.array(range(items), pa.int64()),
        "id": [f"f{row}" for row in range(items)],
        "title": [f"Film {row}" for row in range(items)],
        "genre": pa.array([row % 3 + 1 for row in range(items)], pa.int32()),
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()
