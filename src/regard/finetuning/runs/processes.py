"""Several processes that train one model together, as `torchrun` and `accelerate launch` start them.

Each runs the same program. All read the data and train; the first alone writes and prints.
"""

from __future__ import annotations

import os
from datetime import timedelta

from regard.errors import ConfigError

PATIENCE = timedelta(days=7)
"""How long one waits for the others; a process that died is noticed at once, whoever measures may take long."""


def count() -> int:
    """Return how many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the one that writes and prints."""
    return count() == 1 or os.environ.get("RANK") == "0"


def join(framework: str) -> None:
    """Meet the others.

    Raises:
        ConfigError: there are others, and this framework cannot share its work.
    """
    if count() == 1:
        return
    if framework != "torch":
        raise ConfigError(
            f"finetune: need framework torch for {count()} processes; got '{framework}'; start one alone."
        )
    import torch
    from accelerate import PartialState

    PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)


def wait() -> None:
    """Go on when all have come so far."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def anyone(flag: bool) -> bool:
    """Whether it is true for at least one."""
    if count() == 1:
        return flag
    import torch
    from accelerate import PartialState

    flags = torch.tensor(int(flag), device=PartialState().device)
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return bool(flags.item())
