"""Where a run keeps its checkpoints, how it is told from another run, and what is resumed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from detox.errors import DetoxError, InputError, OutputError
from detox.files import require_writable, write_json
from detox.pretraining.architecture import SIZES, checkpoint_folder, config_digest, scratch_config
from detox.pretraining.packing import PackedSequences
from detox.pretraining.processes import sharding
from detox.pretraining.recipe import PretrainingRecipe

CARD = "pretraining.json"
_RUN = "run.json"
# Choices that change memory or machinery and not the model: another value of them may resume.
_NOT_THE_MODEL = (
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "continue_from",
    "architecture",
    "revision",
)


def run_identity(
    recipe: PretrainingRecipe,
    sequences: PackedSequences,
    tokenizer: Any,
    held_out: Mapping[str, PackedSequences],
    *,
    arm: str | None = None,
) -> dict[str, Any]:
    """What makes this run this run: two runs with equal identities make the same model and the same record.

    A checkpoint to continue from counts by its weights and a published architecture by its values, not by their names.
    How many processes take part is not in it.
    """
    values = {name: value for name, value in recipe.to_dict().items() if name not in (*_NOT_THE_MODEL, *SIZES)}
    shape: dict[str, Any] = {}
    if recipe.architecture is not None:
        shape = {"architecture": config_digest(scratch_config(recipe))}
    elif recipe.continue_from is None:
        shape = recipe.sizes()
    start = None if recipe.continue_from is None else checkpoint_folder(recipe.continue_from, recipe.revision)
    return {
        **({} if arm is None else {"arm": arm}),
        **values,
        **shape,
        "continued_weights": None if start is None else weights_digest(start),
        "data": sequences.digest,
        "tokenizer": tokenizer_digest(tokenizer),
        "held_out": {name: data.digest for name, data in sorted(held_out.items())},
    }


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of what the tokenizer does to text, and of its special tokens."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    # Set and reset by every call of the tokenizer.
    backend.pop("truncation", None), backend.pop("padding", None)
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return hashlib.sha256(json.dumps([backend, special], sort_keys=True).encode()).hexdigest()


def weights_digest(directory: Path) -> str:
    """SHA-256 over the safetensors files of a checkpoint, in order of name.

    Raises:
        InputError: there are none.
    """
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise InputError(f"{directory} has no *.safetensors; expected a transformers checkpoint saved with safetensors")
    sha = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(2**22):
                sha.update(block)
    return sha.hexdigest()


def is_whole(directory: Path) -> bool:
    """Whether weights and tokenizer of a checkpoint are all there; a fresh clone of committed records has neither."""
    index = directory / "model.safetensors.index.json"
    shards = (
        set(json.loads(index.read_text("utf-8"))["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    )
    return all((directory / name).is_file() for name in (*shards, "tokenizer.json"))


def finished(output_dir: Path, identity: dict[str, Any], *, resume: str) -> bool:
    """Whether `output_dir` already holds what this run would make. A card without its weights may be replaced.

    Raises:
        InputError: it holds something else, and `resume` is not "never" or it is not a model that this package made.
    """
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return False
    card = output_dir / CARD
    if not card.is_file():
        raise InputError(f"{output_dir} exists and is not a pretrained model of detox; give another output directory")
    if resume == "never" or not is_whole(output_dir):
        return False
    other = _differences(json.loads(card.read_text("utf-8"))["identity"], identity)
    if other:
        raise InputError(
            f"{output_dir} holds a model of another run ({other}); give another output directory, or resume='never' to "
            "replace it"
        )
    return True


def open_work_dir(work_dir: Path, identity: dict[str, Any], *, resume: str) -> Path | None:
    """Make the work directory ready for this run and return the checkpoint to go on from, if there is one.

    Raises:
        InputError: it holds checkpoints of another run and `resume` is not "never", or it is somebody else's folder.
    """
    run = work_dir / _RUN
    if work_dir.exists() and any(work_dir.iterdir()):
        if not run.is_file():
            raise InputError(f"{work_dir} exists and is not a work directory of detox; give another work_dir")
        if resume == "never":
            shutil.rmtree(work_dir)
        elif other := _differences(json.loads(run.read_text("utf-8")), identity):
            raise InputError(
                f"{work_dir} holds checkpoints of another run ({other}); give another work_dir, or resume='never' to "
                "start over"
            )
    require_writable(work_dir)
    write_json(run, identity)
    return _last_checkpoint(work_dir)


def require_same_sharding(checkpoint: Path) -> None:
    """Refuse to go on from a checkpoint that is in the pieces of another launcher's configuration.

    Raises:
        InputError: it is.
    """
    found = None
    if any(checkpoint.glob("pytorch_model_fsdp*")):
        found = "fsdp"
    elif any(checkpoint.glob("global_step*")):
        found = "deepspeed"
    if found != sharding():
        raise InputError(
            f"{checkpoint} was written {f'under {found}' if found else 'without sharding'} and this run is "
            f"{f'under {sharding()}' if sharding() else 'without it'}; launch as before, or resume='never' to start over"
        )


def require_space(directory: Path, needed: int) -> None:
    """Refuse a run whose checkpoints and model do not fit on the disk, before any work.

    Raises:
        OutputError: says how much is there and how much is needed.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OutputError(
            f"{directory} has {free / 2**30:.1f} GiB free and checkpoints and model need {needed / 2**30:.1f} GiB; free "
            "some, or give another work_dir and output_dir"
        )


@contextmanager
def full_disk_in_one_line(work_dir: Path) -> Iterator[None]:
    """Turn what libraries raise when a disk is full into one line, and remove the half-written checkpoint.

    Raises:
        OutputError: the disk is full, or a limit on files was met.
    """
    try:
        yield
    except DetoxError:
        raise
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _full_disk(error)
        if reason is None:
            raise
        if work_dir.is_dir():
            _last_checkpoint(work_dir)
        raise OutputError(
            f"cannot write checkpoint or model beside {work_dir}: {reason}; free some space, and the same call goes on from "
            "the last whole checkpoint"
        ) from error


def _full_disk(error: BaseException) -> str | None:
    """Why a file could not be written, if that is what an error says."""
    full = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    if isinstance(error, OSError) and error.errno in full:
        return error.strerror or "the disk is full"
    # torch and safetensors write files in other languages and give text alone.
    for number in full:
        if os.strerror(number) in str(error):
            return os.strerror(number)
    if "PytorchStreamWriter failed" in str(error) or "file write failed" in str(error):
        return "the disk is full or a file may not grow"
    return None


def _last_checkpoint(work_dir: Path) -> Path | None:
    """The newest checkpoint that was written to its end; those that were not are removed.

    A Trainer writes its state file last. A run killed while saving leaves a folder without it, or half of it.
    """
    complete: list[tuple[int, Path]] = []
    for folder in work_dir.glob("checkpoint-*"):
        try:
            complete.append(
                (int(json.loads((folder / "trainer_state.json").read_text("utf-8"))["global_step"]), folder)
            )
        except (OSError, ValueError, KeyError):
            shutil.rmtree(folder)
    return max(complete)[1] if complete else None


def _differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """In words what differs; empty where nothing does."""
    names = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
    shown = ("continued_weights", "architecture", "data", "tokenizer", "held_out")  # digests say nothing to a reader
    return ", ".join(
        f"other {name}" if name in shown else f"{name} {found.get(name)!r} and not {expected.get(name)!r}"
        for name in names
    )
