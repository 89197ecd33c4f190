"""Lines of progress."""

from metarec_ray.data.progress import Meter


def test_a_meter_says_how_far_it_is_and_how_long_it_will_take() -> None:
    now, said = [0.0], []
    meter = Meter(said.append, "read", "chunks", 4, clock=lambda: now[0])
    for second in (1.0, 3.0, 4.0, 9.0):
        now[0] = second
        meter.add(3_000_000, peak_bytes=int(second) * 2**20)
    meter.end()
    assert said == [
        "prepare: read 2 of 4 chunks, 6,000,000 rows, 2,000,000 rows/s, 3 MiB a worker, 3 s left",
        "prepare: read 4 of 4 chunks, 12,000,000 rows, 1,333,333 rows/s, 9 MiB a worker in 9.0 s",
    ]
