"""Random streams named by what they are for, so that one thing's randomness never shifts another's."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def named_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and on every name."""
    digest = hashlib.sha256("/".join(str(part) for part in (seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@contextmanager
def seeded(seed: int, *names: str | int) -> Iterator[None]:
    """Run the body on the CPU stream of that name; the stream outside goes on as if nothing had happened."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(named_seed(seed, *names))
        yield
