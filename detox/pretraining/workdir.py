"""Where a run keeps its checkpoints, how it is told from another run, and what is resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detox.errors import InputError
from detox.pretraining.architecture import SIZES, checkpoint_folder, config_digest, scratch_config
from detox.pretraining.packing import PackedSequences
from detox.pretraining.recipe import PretrainingRecipe
from detox.training.checkpoints import differences
from detox.training.processes import sharding

CARD = "pretraining.json"
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
    other = differences(json.loads(card.read_text("utf-8"))["identity"], identity)
    if other:
        raise InputError(
            f"{output_dir} holds a model of another run ({other}); give another output directory, or resume='never' to "
            "replace it"
        )
    return True


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
