"""Units on a Ray cluster, which sees to retries, lost nodes and new ones. Results come back here to be kept."""

import functools
import logging
import os
import socket
from collections.abc import Generator, Sequence
from typing import Any

from gradtoken.benchmark.tasks import Done, Job, Task, attempted, shipped, unpacked
from gradtoken.errors import BadRun, GradTokenError
from gradtoken.models.model import need

AHEAD = 1000  # units that are given out at once: more than a cluster has places, fewer than there may be
RETRIES = 5  # of a unit whose node or process is lost
HERE = "127.0.0.1"


def on_ray(job: Job, tasks: Sequence[Task], address: str | None) -> Generator[Done]:
    """Units in whatever order they are done. address: of a running cluster; None starts one on this machine alone."""
    ray = need("ray", "cluster")
    own = not ray.is_initialized()
    if own:
        begin(ray, address)
    try:
        need_of = {"num_cpus": job.threads, "num_gpus": int(job.device == "cuda")}
        check_room(ray, need_of)
        compute = ray.remote(**need_of, max_retries=RETRIES)(computed)
        content, left, given = ray.put(shipped(job)), iter(tasks), dict[Any, Task]()
        while True:
            for task in left:
                given[compute.remote([content], task)] = task
                if len(given) == AHEAD:
                    break
            if not given:
                return
            (ready,), _ = ray.wait(list(given), num_returns=1)
            yield fetched(ray, ready, given.pop(ready))
    finally:
        if own:
            ray.shutdown()


def begin(ray: Any, address: str | None) -> None:
    """Join a cluster, or start one that no other machine can reach."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, _node_ip_address=HERE, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = f"there is no Ray cluster at {address!r}" if address else "Ray does not start on this machine"
        raise BadRun(f"{where}: {str(error).splitlines()[0]}") from error


def check_room(ray: Any, wanted: dict[str, int]) -> None:
    """Refuse what no node can give, for which Ray would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(r.get("CPU", 0) >= wanted["num_cpus"] and r.get("GPU", 0) >= wanted["num_gpus"] for r in nodes):
        most = max((int(r.get("CPU", 0)) for r in nodes), default=0)
        raise BadRun(
            f"no node of the Ray cluster has {wanted['num_cpus']} CPUs and {wanted['num_gpus']} GPUs; the largest has "
            f"{most} CPUs: ask for fewer --threads, another --device, or start such a node first"
        )


def fetched(ray: Any, ready: Any, task: Task) -> Done:
    """What a unit gave, or why it gave nothing."""
    try:
        found = ray.get(ready)
    except ray.exceptions.RayError as error:
        return Done(task, ({},) * len(task.wanted), 0.0, "ray", lost=str(error))
    if isinstance(found, GradTokenError):
        raise found
    done: Done = found
    return done


def computed(content: list[Any], task: Task) -> Done | GradTokenError:
    """One unit, in a process of Ray. content: the reference to the job, which stays unpacked for the next unit."""
    return attempted(job_of(content[0]), task, f"{socket.gethostname()} {os.getpid()}")


@functools.lru_cache(maxsize=1)
def job_of(reference: Any) -> Job:
    """The job that a reference names."""
    import ray

    return unpacked(ray.get(reference))
