"""What is said where a package for tracking is missing; MLflow's client is tried in an extra."""

from importlib.util import find_spec

import pytest

from metarec_ray.engine.tracking.mlflow_client import require_installed
from metarec_ray.errors import MachineError


def test_nothing_is_needed_to_track_nothing() -> None:
    require_installed(None, "train.mlflow")


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="the extra mlflow is installed")
def test_a_missing_extra_is_named_with_the_key_that_asks_for_it() -> None:
    sentence = r"sweep.mlflow http://host needs mlflow-skinny, not installed here: pip install"
    with pytest.raises(MachineError, match=rf"{sentence} 'metarec_ray\[mlflow\]'"):
        require_installed("http://host", "sweep.mlflow")
    with pytest.raises(MachineError, match=r"mlflow-skinny.* and alembic, not installed here"):
        require_installed("sqlite:///runs.db", "train.mlflow")
