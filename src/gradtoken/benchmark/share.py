"""Which part of a run is this process's, as Slurm or torchrun say in the environment; no process group is made."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gradtoken.errors import BadRun


@dataclass(frozen=True)
class Share:
    """Units whose number is `rank` modulo `world`. local: which of the processes of one machine this is."""

    rank: int = 0
    world: int = 1
    local: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise BadRun(
                f"expected a rank from 0 to {self.world - 1} of {self.world} processes, got {self.rank}; "
                "name the share of a member of a Slurm array with --share I/N, or --share all"
            )

    def __str__(self) -> str:
        return f"{self.rank}-of-{self.world}"

    def has(self, number: int) -> bool:
        """Whether a unit is of this share."""
        return number % self.world == self.rank

    @classmethod
    def of_environment(cls, known: Mapping[str, str] | None = None) -> "Share":
        """Ranks of torchrun, or the tasks of a Slurm step and the members of a Slurm array, of both all pairs."""
        known = os.environ if known is None else known
        if "RANK" in known and "WORLD_SIZE" in known:
            return cls(number(known, "RANK"), number(known, "WORLD_SIZE"), number(known, "LOCAL_RANK"))
        # SLURM_NTASKS is set in a batch script too, which is one process; of a step srun says SLURM_STEP_NUM_TASKS
        world = max(1, number(known, "SLURM_STEP_NUM_TASKS")) if "SLURM_PROCID" in known else 1
        rank = number(known, "SLURM_PROCID") if world > 1 else 0
        members, member = 1, 0
        if "SLURM_ARRAY_TASK_ID" in known:
            members = max(1, number(known, "SLURM_ARRAY_TASK_COUNT"))
            first, step = number(known, "SLURM_ARRAY_TASK_MIN"), max(1, number(known, "SLURM_ARRAY_TASK_STEP"))
            member = (number(known, "SLURM_ARRAY_TASK_ID") - first) // step
        return cls(member * world + rank, members * world, number(known, "SLURM_LOCALID"))


def number(known: Mapping[str, str], name: str) -> int:
    """A number in the environment; 0 where it is not set."""
    try:
        return int(known.get(name, "0"))
    except ValueError:
        raise BadRun(f"expected a number in the environment's {name}, got {known[name]!r}") from None
