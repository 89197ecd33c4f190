"""What a fault costs a run on two nodes: seconds, steps, and whether parameters are the same.

    python benchmarks/bench_recovery.py [--seeds 3] [--minutes 60] [--kinds "a full disk"]

Two nodes of a Ray cluster in network namespaces (root, `ip`), a fault of each kind at a random step
of a run of 1 to 2 workers, and the parameters of one process without Ray beside it. Each run is
written as soon as it has ended, and what was measured today is not measured again. Writes
benchmarks/results/recovery_<hardware>_<date>.md and .json.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from recovery_faults import FAULTS, Fault, Scene, mount, unmount
from recovery_result import Seen, earlier, write

from metarec_ray import checkpoint as checkpoints
from metarec_ray.checkpoint import CHECKPOINTS, parameters_sha256
from metarec_ray.config.experiment import dump, load, parse
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data, Synthetic
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.run_folder import events_log, metrics_log
from metarec_ray.training.segments import segments_of, train_segments
from metarec_ray.training.trainer import Trainer
from tests.chaos.two_nodes import impossible, two_nodes

STEPS, EVERY, LOG_EVERY = 320, 40, 5
LIMIT_S = 420.0


class Run:
    """A run that was submitted: its process and what its folder shows."""

    def __init__(self, scene: Scene, config: Path, fault: Fault):
        self.scene, self.config, self.fault = scene, config, fault
        self.folder = load(config, []).directory
        self.log = config.with_suffix(".log")
        self.process = self.submit()

    def submit(self) -> "subprocess.Popen[bytes]":
        nodes = self.scene.nodes
        line = [sys.executable, "-m", "metarec_ray", "submit", "train", str(self.config)]
        line += ["--address", nodes.dashboard, *["--supervise"] * self.fault.supervised]
        home = {"METAREC_HOME": str(self.config.parent / "home")}
        with self.log.open("ab") as log:
            return subprocess.Popen(line, env=nodes.environment | home, stdout=log, stderr=log)

    def step(self) -> int:
        """Return the step of the last line of progress."""
        lines = list(metrics_log.read(self.folder / metrics_log.NAME))
        return lines[-1]["step"] if lines else 0

    def sha256(self) -> str:
        found = checkpoints.latest(self.folder / CHECKPOINTS)
        assert found is not None
        assert found[1].state["step"] == STEPS, self.log.read_text()[-2000:]
        return parameters_sha256(found[1].model)


def main() -> int:
    """Measure all kinds, write the result files; 1 if parameters differ."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(FAULTS))
    parser.add_argument("--minutes", type=float, default=1000.0)
    asked = parser.parse_args()
    if why := impossible():
        print(f"bench_recovery: {why}; nothing was measured", file=sys.stderr)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="metarec-recovery-"))
    mount(folder / "disk", 64)
    try:
        settings = Data(buckets=2, synthetic=Synthetic(users=300, items=80, mean_events=20.0))
        build_store(read_log(settings), settings, folder / "store")
        clean = by_one_process(config_of(folder, "clean"))
        seen = earlier()
        done = {(one.seed, one.kind) for one in seen}
        with ExitStack() as stack:
            nodes, begun = stack.enter_context(two_nodes(cpus=1)), time.monotonic()
            for seed, kind in [(n, k) for n in range(asked.seeds) for k in asked.kinds.split(",")]:
                if (seed, kind) in done:
                    continue
                if time.monotonic() - begun > 60 * asked.minutes:
                    break
                one = Seen(kind, seed)
                scene = Scene(nodes, folder / "disk", random.Random(f"{kind} {seed}"))
                try:
                    nodes = measured(one, scene, config_of(folder, f"r{len(seen)}"), clean, stack)
                except (AssertionError, TimeoutError) as error:  # counts as a run that was lost
                    one.said = str(error)
                    stack.close()
                    nodes = stack.enter_context(two_nodes(cpus=1))
                seen.append(one)
                print(one, flush=True)
                write(seen, steps=STEPS, every=EVERY)
    finally:
        unmount(folder / "disk")
        shutil.rmtree(folder, ignore_errors=True)
    return int(not all(one.equal for one in seen))


def config_of(folder: Path, name: str) -> Path:
    """Write the configuration of a run that lies on the disk of its own; return its path."""
    train = {"steps": STEPS, "checkpoint_every": EVERY, "log_every": LOG_EVERY, "lane_tasks": 16}
    workers = {"num_workers": [1, 2], "cpus_per_worker": 0.6, "placement": "spread"}
    tree = {
        "run": {"dir": str(folder / "disk" / name), "store": str(folder / "store")},
        "model": {"dim": 16},
        "train": {**train, **workers},
    }
    path = folder / f"{name}.yaml"
    path.write_text(dump(parse(tree, "the benchmark")), "utf-8")
    return path


def by_one_process(config: Path) -> str:
    """Return the hash of the parameters that one process computes, without Ray."""
    experiment = load(config, [])
    trainer = Trainer(experiment, TaskStore.open(experiment.store))
    train_segments(segments_of(trainer, [STEPS]), report=lambda _: None)
    return parameters_sha256(trainer.checkpoint({}).model)


def measured(seen: Seen, scene: Scene, config: Path, clean: str, stack: ExitStack):
    """Let one run have its fault, fill in what was seen, return the cluster for the next."""
    fault = FAULTS[seen.kind]
    run = Run(scene, config, fault)
    target = scene.source.randrange(EVERY, STEPS // 2)
    until(lambda: run.step() >= target, run)
    seen.at_step, known, hit = run.step(), len(list(events_log.read(run.folder))), time.time()
    fault.hit(scene)
    if fault.by_hand:
        run.process.wait(LIMIT_S)
        seen.told_s = round(time.time() - hit, 1)
        stack.close()
        scene = scene._replace(nodes=stack.enter_context(two_nodes(cpus=1)))
        run.scene, hit = scene, time.time()
        run.process = run.submit()
    follow(seen, run, known, hit)
    seen.equal = run.sha256() == clean
    seen.said = " / ".join(lines_about(run.log))
    fault.mend(scene)
    return scene.nodes


def follow(seen: Seen, run: Run, known: int, hit: float) -> None:
    """Fill in what a run shows after a fault, until it has ended; go on with one that gave up."""
    freed = hit + run.scene.source.uniform(3, 20)
    while time.time() - hit < LIMIT_S:
        now = time.time()
        if freed <= now:
            run.fault.soon(run.scene)
        step = run.step()
        look(seen, list(events_log.read(run.folder))[known:], step, hit)
        if (code := run.process.poll()) is not None:
            if code == 0:
                return
            seen.told_s = seen.told_s or round(now - hit, 1)
            seen.typed_again_s = round(now - hit, 1)
            run.fault.soon(run.scene)
            run.process = run.submit()
        time.sleep(0.1)
    raise TimeoutError(f"{seen} has not ended: {run.log.read_text()[-3000:]}")


def look(seen: Seen, events: list[events_log.Event], step: int, hit: float) -> None:
    """Fill in what the events after the fault and the last step say."""
    told = [one.time for one in events if one.kind in ("failed", "resubmitted")]
    starts = [one for one in events if one.kind == "started"]
    seen.widths = [len(one.nodes) for one in starts]
    if told and seen.told_s is None:
        seen.told_s = round(told[0] - hit, 1)
    if not starts:
        seen.at_step = max(seen.at_step, step)
    elif seen.moving_s is None and step > (starts[-1].step or 0):
        seen.resumed_at = starts[0].step
        seen.lost = max(0, seen.at_step - (starts[0].step or 0))
        seen.moving_s = round(time.time() - hit, 1)


def until(true: Callable[[], bool], run: Run) -> None:
    """Wait until something is true of a run that has not ended."""
    deadline = time.monotonic() + LIMIT_S
    while not true():
        if run.process.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError(run.log.read_text()[-3000:])
        time.sleep(0.1)


def lines_about(log: Path) -> list[str]:
    """Return what a user was told of the failure, shortened."""
    marks = ("train: failed", "train: waiting", "metarec: ", "supervisor: ")
    found = [line for line in log.read_text("utf-8", "replace").splitlines()]
    return [line[:200] for line in found if line.startswith(marks)][:6]


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
