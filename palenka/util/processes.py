"""How many processes train together, as the environment that torchrun sets for each of them says."""

import os

from palenka.util.errors import UserError

LAUNCHED = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
OTHER_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # accelerate reads those of MPI, too


def process_count() -> int:
    """Number of processes, on all machines. Raises UserError where WORLD_SIZE is not such a number."""
    return _number("WORLD_SIZE", 1, smallest=1)


def is_first_process() -> bool:
    """Whether this is the one that tells and writes what all of them know."""
    return os.environ.get("RANK", "0") == "0"


def check_processes() -> None:
    """Check that this process was started by a launcher that started the others, too.

    Raises:
        UserError: variables were left over in the environment, or set by hand, and training would wait forever.
    """
    count, rank, local_rank = process_count(), _number("RANK", 0), _number("LOCAL_RANK", 0)
    absent = [name for name in LAUNCHED if not os.environ.get(name)]
    launched = any(_number(name, 1) > 1 for name in OTHER_SIZES) or count > 1 or rank or "LOCAL_RANK" in os.environ
    if launched and absent:
        raise _leftover(f"without {', '.join(absent)}")
    if rank >= count or local_rank >= count:
        raise _leftover("which do not fit each other")


def _number(name: str, default: int, smallest: int = 0) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text[:9]) < smallest:
        raise _leftover(f"where {name} has to be a number from {smallest} on")
    return int(text[:9])


def _leftover(problem: str) -> UserError:
    names = [name for name in (*LAUNCHED, *OTHER_SIZES) if name in os.environ]
    there = " ".join(f"{name}={os.environ[name]}" for name in names)
    return UserError(
        f"the environment has {there}, {problem}. For one process: unset {' '.join(names)}. For several: "
        "torchrun --nproc_per_node=N in place of python, which sets them itself"
    )
