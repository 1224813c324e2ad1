"""Where a run keeps its checkpoints, how it is told from another run, and what is resumed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detox.errors import InputError
from detox.files import require_writable, write_json
from detox.pretraining.packing import PackedSequences
from detox.pretraining.recipe import SIZES, PretrainingRecipe

CARD = "pretraining.json"
_RUN = "run.json"
# Choices that change memory or machinery and not the model: another value of them may resume.
_NOT_THE_MODEL = ("gradient_accumulation_steps", "continue_from")


def run_identity(
    recipe: PretrainingRecipe, sequences: PackedSequences, tokenizer: Any, held_out: Mapping[str, PackedSequences]
) -> dict[str, Any]:
    """What makes this run this run: two runs with equal identities make the same model and the same record.

    A checkpoint to continue from counts by its weights, not by its path.
    """
    values = {name: value for name, value in recipe.to_dict().items() if name not in (*_NOT_THE_MODEL, *SIZES)}
    return {
        **values,
        **(recipe.sizes() if recipe.continue_from is None else {}),
        "continued_weights": None if recipe.continue_from is None else weights_digest(Path(recipe.continue_from)),
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
    shown = ("continued_weights", "data", "tokenizer", "held_out")  # digests say nothing to a reader
    return ", ".join(
        f"other {name}" if name in shown else f"{name} {found.get(name)!r} and not {expected.get(name)!r}"
        for name in names
    )
