"""What is held for a driver that was killed is given back by the next one."""

from pathlib import Path

from metarec_ray.engine.train.reservation import take_over


def test_what_is_held_for_the_driver_before_is_given_back_once(tmp_path: Path) -> None:
    given_back: list[str] = []
    for run_id in ("first", "second", "third"):
        take_over(tmp_path / "run", run_id, given_back.append)
    assert given_back == ["first", "second"]
