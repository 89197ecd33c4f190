"""Nodes of a Ray cluster on one machine: network namespaces with a bridge between them.

Each has its own address, a host name that means loopback (as on every Debian), its own /dev/shm and
folder of the session; the file system is shared. Needs root and `ip`.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from metarec_ray.engine.cluster.local_cluster import HEALTH

NAMES = ("node-a", "node-b", "node-c")
"""The first two are started, the third if a test asks for it."""
_ROOT = Path(__file__).parents[2]


class Places(NamedTuple):
    """The beginning of all addresses, what is made in the kernel, the folder of the session."""

    network: str
    bridge: str
    namespaces: tuple[str, ...]
    folder: Path


class Nodes(NamedTuple):
    """A cluster that runs: what a client needs, and the process that holds each node."""

    dashboard: str
    environment: dict[str, str]
    heads: dict[str, "subprocess.Popen[bytes]"]
    begin: Callable[[int], None]
    """Starts the node of a number."""
    plug: Callable[[int, bool], None]
    """Cuts the node of a number off from the others, or connects it again."""
    end: Callable[[int], None]
    """Ends all processes of the node of a number, those that lost their parent too."""


def impossible() -> str | None:
    """Return why no namespaces can be made here, None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("ip", "unshare", "mount") if shutil.which(name) is None]
    if missing:
        return f"no {', '.join(missing)} on the PATH"
    name = f"mr{secrets.token_hex(2)}x"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"ip netns add: {done.stderr.strip()}"
    _ip(f"netns del {name}")
    return None


@contextmanager
def two_nodes(cpus: int, **variables: str) -> Iterator[Nodes]:
    """Start a token-secured cluster with `cpus` logical CPUs a node; end all of it afterwards.

    `variables` are in the environment of `ray start`.
    """
    tag = secrets.token_hex(2)
    folder = Path(f"/tmp/mr{tag}")  # short: Ray's sockets lie below it
    network = f"10.213.{secrets.randbelow(254) + 1}"
    places = Places(network, f"mr{tag}", tuple(f"mr{tag}{n}" for n in "abc"), folder)
    environment = _environment()
    heads: dict[str, subprocess.Popen[bytes]] = {}

    def plug(number: int, connected: bool) -> None:
        _ip(f"link set {places.namespaces[number]} {'up' if connected else 'down'}")

    def end(number: int) -> None:
        kill(heads[NAMES[number]])
        _end_all(places.namespaces[number])

    def begin(number: int) -> None:
        heads[NAMES[number]] = _start(places, number, cpus, environment | variables)

    try:
        _connect(places)
        begin(0)
        dashboard = f"http://{network}.11:8265"
        _wait_until_it_answers(dashboard)
        begin(1)
        yield Nodes(dashboard, environment, heads, begin, plug, end)
    finally:
        _end(places, heads)


def workers_of(nodes: Nodes, name: str) -> list[psutil.Process]:
    """Return the train workers that run on a node."""
    found = []
    for process in psutil.Process(nodes.heads[name].pid).children(recursive=True):
        try:
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


def kill(head: "subprocess.Popen[bytes]") -> None:
    """End a node, all of its processes at once, as a power cut does."""
    with suppress(psutil.NoSuchProcess):  # it was ended before
        own = psutil.Process(head.pid)
        for process in [*own.children(recursive=True), own]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
    head.wait()


def _environment() -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return clean | {
        "PATH": path,  # a job's `python` is looked for here
        "PYTHONPATH": str(_ROOT),
        **HEALTH,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "no_proxy": "*",
    }


def _connect(places: Places) -> None:
    _ip(f"link add {places.bridge} type bridge")
    _ip(f"addr add {places.network}.1/24 dev {places.bridge}")
    _ip(f"link set {places.bridge} up")
    for number, namespace in enumerate(places.namespaces):
        _ip(f"netns add {namespace}")
        hosts = Path("/etc/netns") / namespace / "hosts"  # `ip netns exec` lays it over /etc/hosts
        hosts.parent.mkdir(parents=True)
        hosts.write_text(f"127.0.0.1 localhost\n127.0.1.1 {NAMES[number]}\n", "utf-8")
        _ip(f"link add {namespace} type veth peer name e0 netns {namespace}")
        _ip(f"link set {namespace} master {places.bridge} up")
        _ip(f"-n {namespace} addr add {places.network}.{11 + number}/24 dev e0")
        _ip(f"-n {namespace} link set e0 up")
        _ip(f"-n {namespace} link set lo up")


def _start(
    places: Places, number: int, cpus: int, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    own = f"{places.network}.{11 + number}"
    first = f"{places.network}.11"
    head = ["--head", "--port=6379", f"--dashboard-host={first}", "--dashboard-port=8265"]
    line = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
        *(head if number == 0 else [f"--address={first}:6379"]),
        *(f"--node-ip-address={own}", f"--num-cpus={cpus}", "--object-store-memory=100000000"),
        *(f"--temp-dir={places.folder}", "--disable-usage-stats"),
    ]
    script = (
        f"hostname {NAMES[number]} && mkdir -p {places.folder}"
        f" && mount -t tmpfs none {places.folder} && mount -t tmpfs none /dev/shm"
        ' && exec "$@"'
    )
    inside = ["ip", "netns", "exec", places.namespaces[number], "unshare", "--uts"]
    return subprocess.Popen(
        [*inside, "bash", "-c", script, "bash", *line],
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_until_it_answers(dashboard: str) -> None:
    deadline = time.monotonic() + 120
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        try:
            opener.open(f"{dashboard}/", timeout=2)
            return
        except urllib.error.HTTPError:  # it asks for the token
            return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"no dashboard at {dashboard} after 120 s")


def _end(places: Places, heads: Mapping[str, "subprocess.Popen[bytes]"]) -> None:
    for head in heads.values():
        kill(head)
    for namespace in places.namespaces:
        _end_all(namespace)
        _ip(f"netns del {namespace}", check=False)
        shutil.rmtree(Path("/etc/netns") / namespace, ignore_errors=True)
    _ip(f"link del {places.bridge}", check=False)
    shutil.rmtree(places.folder, ignore_errors=True)


def _end_all(namespace: str) -> None:
    for pid in _ip(f"netns pids {namespace}", check=False).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)  # what lost its parent


def _ip(words: str, *, check: bool = True) -> str:
    done = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise OSError(f"ip {words}: {done.stderr.strip()}")
    return done.stdout
