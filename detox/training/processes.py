"""Several processes, one run: the first decides and writes, the others wait and take over what it found.

Everything here also holds for one process, where it does nothing. Processes are started by `accelerate launch` or `torchrun`,
which say how many there are in the environment; the process group is there once `TrainingArguments` has set up its device.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from detox import errors
from detox.errors import DetoxError, InputError


def process_count() -> int:
    """How many processes share this run; 1 where no launcher says otherwise."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def sequences_a_piece(batch_size: int, accumulation: int, processes: int) -> int:
    """Sequences that one process computes at a time: `batch_size` / (processes x accumulation).

    Raises:
        InputError: it does not divide; another split would be another batch.
    """
    pieces = accumulation * processes
    if batch_size % pieces:
        raise InputError(
            f"batch_size {batch_size} is shared by {processes} processes x gradient_accumulation_steps {accumulation} and "
            f"is no multiple of {pieces}; change one of them"
        )
    return batch_size // pieces


def start_processes(*, cpu: bool) -> None:
    """Set up the process group where a launcher started several processes and nothing has done so yet."""
    if process_count() > 1 and not dist.is_initialized():
        from accelerate import PartialState  # type: ignore[import-untyped]

        PartialState(cpu=cpu)


def first_alone(work: Callable[[], object]) -> str | None:
    """Do `work` on the first process while the others wait; every process gets its result, or its error.

    Args:
        work: what it returns, if that is text, every process gets; otherwise None.

    Raises:
        DetoxError: what `work` raised, on every process.
    """
    found, failure, raised = None, None, None
    if process_count() == 1 or is_first():
        try:
            value = work()
            found = value if isinstance(value, str) else None
        except DetoxError as error:
            raised, failure = error, [type(error).__name__, str(error)]
    if process_count() > 1:
        box = [json.dumps([found, failure])]
        dist.broadcast_object_list(box)
        found, failure = json.loads(box[0])
    if raised is not None:
        raise raised
    if failure is not None:
        kind = getattr(errors, failure[0], InputError)
        raise (InputError if kind is errors.UnknownName else kind)(failure[1])
    return None if found is None else str(found)


def summed(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes, on each of them."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values


# Seconds that gloo's threads get to let go of the last tensors. A model in shards keeps them alive beyond the group's end, and
# one that drops a tensor of Python's while the interpreter is ending aborts the process (pytorch#179291).
_SETTLING = 1.0


def leave() -> None:
    """End the process group at the end of a script, as torch asks."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
        time.sleep(_SETTLING)


def allow_sharding_on_cpus() -> None:
    """Let accelerate shard a model over processes without GPUs, where its launcher was told to.

    It shards only what it counts as processes of accelerators and would fall back to a whole copy on each; FSDP2 itself
    runs on CPUs with gloo. To be called when the process group is there and no Accelerator is.
    """
    from accelerate import DistributedType, PartialState

    if process_count() > 1 and sharding() == "fsdp" and not torch.cuda.is_available():
        PartialState().distributed_type = DistributedType.MULTI_GPU


def sharding() -> str | None:
    """How the launcher spreads the model over processes: "fsdp", "deepspeed", or None where each holds all of it."""
    for name in ("fsdp", "deepspeed"):
        if os.environ.get(f"ACCELERATE_USE_{name.upper()}", "false").lower() in ("true", "1", "yes"):
            return name
    return None


def device_name() -> str:
    """What this process computes on: the GPU's name, or "cpu"."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
