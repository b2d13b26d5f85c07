"""Run as a program: what survives kills, full and read-only disks. Prints what it found as JSON.

python -m tests.benchmark.harsh kills FOLDER COUNT PLANS | full | tasks | nodes FOLDER | many FOLDER COUNT WORKERS
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from gradtoken.models._torchvision import ensure_torchvision

SAMPLES, UNIT = 60, 2


def prepared():
    """What the program needs of the tests, imported when torchvision can be."""
    ensure_torchvision()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    from tests.benchmark import tiny

    return tiny


def plans_of(tiny, folder, count):
    """Plans that share maps, and write down each sample that is computed."""
    from gradtoken.protocols.perturbation import Perturbation

    @dataclass(frozen=True)
    class Watched(Perturbation):
        place: str = field(default="", compare=False)

        def describe(self):
            return {key: value for key, value in super().describe().items() if key != "place"}

        def view(self, sample, model):
            with open(Path(self.place) / "viewed", "a") as file:
                file.write(f"{self.name} {sample.id}\n")
            return super().view(sample, model)

    model = tiny.model()
    model = replace(model, net=model.net.float())
    quick = {name: getattr(tiny.QUICK, name) for name in tiny.QUICK.__dataclass_fields__}
    # the second explains the prediction alone, so that its batches are others and borrowed maps would show
    protocols = [Watched(**quick, place=str(folder))]
    protocols.append(replace(protocols[0], name="second", asks=("predicted",), shares=(0.5,)))
    some = tiny.samples(SAMPLES)
    return [tiny.plan_of(some, one, model, ("gradtoken", "rollout"), unit=UNIT) for one in protocols[:count]]


def kills(folder, count, plans):
    """Kill a run at random moments and go on, until it was killed so often; a finished run begins anew."""
    from gradtoken.benchmark.folder import RunFolder
    from gradtoken.benchmark.running import run_all

    tiny = prepared()
    folder.mkdir(parents=True, exist_ok=True)
    asked = plans_of(tiny, folder, plans)
    roots = [folder / f"whole{i}" for i in range(plans)]
    start = time.monotonic()
    run_all(asked, roots)
    once = time.monotonic() - start
    expected = [merged(RunFolder.open(root), folder) for root in roots]
    rng, killed, rounds, again, results = random.Random(0), 0, 0, 0, []
    while killed < count:
        roots = [folder / f"round{rounds}-{i}" for i in range(plans)]
        viewed, sessions = Counter(), 0
        while True:
            (folder / "viewed").unlink(missing_ok=True)
            done = kept(asked, roots)
            died = attempt(lambda roots=roots: run_all(asked, roots), rng.uniform(0, once / 5))
            now = Counter((folder / "viewed").read_text().splitlines()) if (folder / "viewed").exists() else Counter()
            again += sum(now[name] for name in done)
            viewed += now
            sessions += 1
            if not died:
                break
            killed += 1
        extra = sum(viewed.values()) - SAMPLES * plans
        results.append({"sessions": sessions, "extra": extra, "most": (sessions - 1) * UNIT * plans})
        results[-1]["same"] = [merged(RunFolder.open(root), folder) for root in roots] == expected
        rounds += 1
    return {"killed": killed, "rounds": results, "computed though kept": again}


def kept(plans, roots):
    """Samples whose unit is whole in each folder, for all methods, and not in the middle of being kept."""
    from gradtoken.benchmark.folder import RunFolder

    found = set()
    begun = [(plan, RunFolder.open(root)) for plan, root in zip(plans, roots, strict=True) if is_begun(root)]
    for plan, folder in begun:
        for unit in plan.units:
            if not folder.missing(plan.variants, unit) and not any(other.interrupted(unit) for _, other in begun):
                found |= {f"{plan.protocol.name} {plan.data.ids[i]}" for i in unit}
    return found


def is_begun(root):
    return (root / "manifest.json").exists()


def attempt(call, delay):
    """Call in a process of its own, killed after a while. Whether it was."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            call()
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + delay
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, status
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def merged(folder, place):
    """All rows as bytes."""
    from gradtoken.benchmark.columns import merge

    assert merge(folder, place / "merged.parquet")[1] == 0
    return (place / "merged.parquet").read_bytes()


def full(folder):
    """Fill a small disk with a run, give it room, and go on. In a mount namespace of its own."""
    from gradtoken.benchmark.counting import counted
    from gradtoken.benchmark.folder import RunFolder
    from gradtoken.benchmark.running import run
    from gradtoken.errors import BadRun

    tiny = prepared()
    folder.mkdir(parents=True)
    (plan,) = plans_of(tiny, folder, 1)
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(disk)], check=True)
    found = {}
    try:
        run(plan, disk / "run")
    except BadRun as error:
        found["full"] = str(error)
    before = counted(RunFolder.open(disk / "run"), plan.variants)
    found["files"] = sorted(path.name for path in disk.rglob(".*") if path.is_file() and ".lock" not in path.name)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        run(plan, disk / "run")
    except BadRun as error:
        found["readonly"] = str(error)
    found["kept"] = [str(before), str(counted(RunFolder.open(disk / "run"), plan.variants))]
    subprocess.run(["mount", "-o", "remount,rw,size=64m", str(disk)], check=True)
    there = {path: path.stat().st_mtime_ns for path in disk.rglob("*.parquet")}
    run(plan, disk / "run")
    found["after"] = str(counted(RunFolder.open(disk / "run"), plan.variants))
    found["rewritten"] = sum(path.stat().st_mtime_ns != time for path, time in there.items())
    run(plan, folder / "whole")
    found["same"] = merged(RunFolder.open(disk / "run"), folder) == merged(RunFolder.open(folder / "whole"), folder)
    return found


def nodes(folder):
    """A Ray cluster of two nodes, of which one is killed after it has finished units."""
    from ray.cluster_utils import Cluster

    from gradtoken.benchmark.folder import RunFolder
    from gradtoken.benchmark.running import How, run, run_all

    tiny = prepared()
    folder.mkdir(parents=True)
    (plan,) = plans_of(tiny, folder, 1)
    run(plan, folder / "whole")
    local = {"node_ip_address": "127.0.0.1", "num_cpus": 2}
    cluster = Cluster(initialize_head=True, head_node_args={**local, "include_dashboard": False})
    other = cluster.add_node(**local)
    by_worker, killed, said = Counter(), set(), []

    def tell(event):
        said.append(event)
        by_worker[event.get("worker")] += event["event"] == "unit"
        if not killed and event["event"] == "unit":
            theirs = pids_of(other)
            if any(worker and int(worker.split()[-1]) in theirs for worker in by_worker):
                killed.update(theirs)
                cluster.remove_node(other, allow_graceful=False)

    try:
        run_all([plan], [folder / "run"], how=How("ray", address=cluster.address), tell=tell)
    finally:
        cluster.shutdown()
    theirs = sum(count for worker, count in by_worker.items() if worker and int(worker.split()[-1]) in killed)
    units = [event["number"] for event in said if event["event"] == "unit"]
    return {
        "by the dead node": theirs,
        "by the other": sum(by_worker.values()) - theirs,
        "each once": sorted(units) == list(range(len(plan.units))),
        "viewed": len((folder / "viewed").read_text().splitlines()) - SAMPLES,  # the whole run has seen each too
        "same": merged(RunFolder.open(folder / "run"), folder) == merged(RunFolder.open(folder / "whole"), folder),
    }


def tasks(folder):
    """The same on a Ray of this machine alone."""
    from gradtoken.benchmark.running import How, run

    tiny = prepared()
    folder.mkdir(parents=True)
    (plan,) = plans_of(tiny, folder, 1)
    whole = merged(run(plan, folder / "whole"), folder)
    return {"same": merged(run(plan, folder / "run", how=How("ray")), folder) == whole}


def pids_of(node):
    """The processes of a Ray node, its workers included."""
    found, added = {node.all_processes["raylet"][0].process.pid}, True
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    while added:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found, added = found | more, bool(more)
    return found


def many(folder, count, workers):
    """A run over so many samples."""
    from gradtoken.benchmark.counting import counted
    from gradtoken.benchmark.running import How, run
    from gradtoken.data.sample import DataSet

    tiny = prepared()
    some = tiny.samples(7)
    data = DataSet("many", range_names(count), lambda i: replace(some[i % 7], id=f"{i:07d}"))
    model = tiny.model()
    model = replace(model, net=model.net.float())
    one = replace(tiny.QUICK, asks=("predicted",), shares=(0.5,))
    plan = replace(tiny.plan_of(some, one, model), data=data, unit=512, batch=256, chunk=512)
    start = time.monotonic()
    folder = run(plan, folder, how=How(workers=workers))
    wall = time.monotonic() - start
    ids = Counter(row.sample for row in folder.all_rows(plan.variants[0]))
    return {"seconds": wall, "counts": str(counted(folder, plan.variants)), "rows": ids.total(), "ids": len(ids)}


def range_names(count):
    return [f"{i:07d}" for i in range(count)]


if __name__ == "__main__":
    task, place, *numbers = sys.argv[1:]
    known = {"kills": kills, "full": full, "nodes": nodes, "tasks": tasks, "many": many}
    print(json.dumps(known[task](Path(place), *map(int, numbers))))
