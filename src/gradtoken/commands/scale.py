"""Options of the shell that say where and how a run is computed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from gradtoken.errors import BadRun
from gradtoken.outside import whole

if TYPE_CHECKING:
    from gradtoken.benchmark.running import How
    from gradtoken.benchmark.share import Share

Engine = Annotated[str, typer.Option(help="here, or ray.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes of this machine; with --device cuda one a GPU.")]
Cluster = Annotated[str | None, typer.Option("--address", help="Of a running Ray cluster, or auto.")]
ShareOf = Annotated[
    str | None, typer.Option("--share", help="I/N: part I, from 0, of N; or all. Else as Slurm or torchrun say.")
]
Again = Annotated[bool, typer.Option("--retry-failed", help="Also compute again where samples failed.")]
Keeping = Annotated[str, typer.Option("--memory", help="Of queries and keys: keep, bfloat16, float16, recompute.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Of PyTorch, for each worker.")]


@dataclass(frozen=True)
class Placed:
    """What was decided. device: where the model is loaded."""

    how: "How"
    device: str | None
    threads: int | None


def placed(engine: str, workers: int | None, address: str | None, share: str | None, again: bool) -> "How":
    """How a run is computed, before its device is known."""
    from gradtoken.benchmark.running import How

    if address and engine != "ray":
        raise BadRun("--address names a Ray cluster; add --engine ray")
    return How(engine, workers or 0, address, share_of(share), again=again)


def share_of(text: str | None) -> "Share":
    """`2/8`, `all`, or what the environment says."""
    from gradtoken.benchmark.share import Share

    if text is None:
        return Share.of_environment()
    if text == "all":
        return Share()
    rank, slash, world = text.partition("/")
    own, all_ = whole(rank), whole(world)
    if not slash or own is None or all_ is None:
        raise BadRun(f"expected --share I/N or all, got {text!r}")
    return Share(own, all_)


def settled(how: "How", device: str | None, threads: int | None) -> Placed:
    """One worker for each GPU, a GPU for each process of a machine, and as many threads as there are cores for."""
    from dataclasses import replace

    import torch

    if device == "cuda" and how.engine == "ray":
        return Placed(replace(how, device="cuda"), "cpu", threads or 1)  # the cluster may have what this machine lacks
    if device == "cuda" and (count := torch.cuda.device_count()) > 1:
        if how.share.world > 1 and not how.workers:
            device = f"cuda:{how.share.local % count}"
        elif not how.workers:
            how = replace(how, workers=count)
    if threads is None and how.engine == "ray":
        threads = 1
    if threads is None and how.workers > 1:
        threads = max(1, torch.get_num_threads() // how.workers)  # of the cores that this process may use
    return Placed(how, device, threads)
