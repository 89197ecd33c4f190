"""What the protocol melu refuses, in one sentence, before anything is trained or fitted."""

from pathlib import Path

import pytest

from metarec_ray.config import load, parse
from metarec_ray.engine.evaluate_melu import WARM, held_out, melu_rows, require_warm
from metarec_ray.errors import ConfigError, DataError

CONFIG = Path(__file__).parents[3] / "jobs" / "configs" / "ml-1m-melu.yaml"


def refuse(tree: dict, data_dir: Path) -> None:
    melu_rows(parse(tree, "here"), None, data_dir=data_dir, progress=print)


@pytest.mark.parametrize(
    "data", [{"path": "synthetic", "feedback": "explicit"}, {"path": "ml-1m"}, {"path": "ml-100k"}]
)
def test_other_logs_and_other_feedback_are_refused(data: dict, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"explicit feedback on ml-1m, got .* {data['path']} "):
        refuse({"data": data}, tmp_path)


def test_the_shuffle_is_the_seed_mod_5(tmp_path: Path) -> None:
    data = {"path": "ml-1m", "feedback": "explicit"}
    with pytest.raises(DataError, match=r"missing .*ratings\.parquet, .*tasks_seed2\.parquet$"):
        refuse({"data": data, "run": {"seed": 7}}, tmp_path)


def test_the_shipped_configuration_trains_on_what_the_protocol_allows() -> None:
    data = load(CONFIG).data
    require_warm(data, 0)
    with pytest.raises(ConfigError, match=r"seed mod 5 = 1 .* data\.without = .*tasks_seed1"):
        require_warm(data, 1)
    everything = data.model_copy(update={"only": None})
    with pytest.raises(ConfigError, match=r"data\.only = .*'warm'.*, got None$"):
        require_warm(everything, 0)
    assert (data.only, data.without) == (WARM, held_out(0))
