"""Short instruction tuning: every arm gets the same few dialogues, and only replies carry loss.

The selective-loss paper measures its arms once more after this (arXiv 2505.03052; Tulu SFT there). All weights are trained, by
trl's SFTTrainer, on prompts encoded exactly as `detox.models.generate` encodes them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import tempfile
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from detox.data.contrasts import Contrast, digest
from detox.errors import InputError, require_known
from detox.files import atomic_directory, require_replaceable, require_writable, write_json
from detox.models import LanguageModel
from detox.pretraining.dialogues import (
    DIALOGUE_TEMPLATE,
    SCHEDULES,
    DialogueTokens,
    InstructionRecipe,
    dialogue_template,
    dialogue_tokens,
)
from detox.pretraining.workdir import is_whole, tokenizer_digest, weights_digest
from detox.training.isolation import preserved_random_state, quiet_transformers
from detox.training.progress import Progress, ShowProgress, StopDiverged

CARD = "instruction.json"

__all__ = ["CARD", "DIALOGUE_TEMPLATE", "InstructionRecipe", "instruct"]


def instruct(
    base: str | Path,
    dialogues: Sequence[Contrast],
    output_dir: str | Path,
    *,
    recipe: InstructionRecipe | None = None,
    revision: str | None = None,
    resume: str = "auto",
    progress: Progress = True,
) -> Path:
    """Tune all weights of a base model on the safe replies of dialogues, and save it as a plain transformers checkpoint.

    The model appears whole or not at all, with its tokenizer and `instruction.json`. Where it is there already, the call returns at
    once; an unfinished run leaves nothing and starts anew. Random states of python, numpy and torch are as before afterwards.

    Args:
        base: a folder in the transformers layout, or a hub id; it is not changed.
        dialogues: `prompt` is the user's turn and each of `safe` a reply to it; toxic continuations are not used. A dialogue that
            the model's context does not hold is left out, and counted in the card.
        output_dir: where the model goes; a new or empty folder, or one that this function made.
        recipe: how; `InstructionRecipe()` if None.
        revision: of a hub id.
        resume: "auto", or "never" to tune again and replace what is there.
        progress: True for a bar on stderr, False for none, or a function of (step, steps).

    Returns:
        `output_dir`.

    Raises:
        OutputError: the place cannot be written, or holds something else; found before any work.
        InputError: no replies, a tokenizer without an end token, or a folder with a model of other data or settings.
        MissingData: no such base.
        DetoxError: the loss became NaN or infinite.
        KeyboardInterrupt: Ctrl-C; nothing is written.
    """
    output, recipe = Path(output_dir), recipe or InstructionRecipe()
    require_known("resume", resume, ("auto", "never"))
    require_replaceable(output, CARD)
    require_writable(output.parent)
    learned = [one for one in dialogues if one.safe]
    if not learned:
        raise InputError(f"none of {len(dialogues)} dialogues has a reply to learn (a safe continuation)")
    with quiet_transformers():
        lm = LanguageModel.from_pretrained(base, revision=revision, dtype="float32")
    template = dialogue_template(recipe, lm.tokenizer)
    identity = _identity(base, lm, learned, recipe, template)
    if _finished(output, identity, resume=resume):
        return output
    with preserved_random_state(), quiet_transformers():
        # Before the trainer sees the tokenizer: it sets a pad token.
        tokenizer = copy.deepcopy(lm.tokenizer)
        if template is not None:
            tokenizer.chat_template = template
        rows, too_long = dialogue_tokens(LanguageModel(lm.model, tokenizer), learned, recipe)
        started = time.monotonic()
        history, steps = _train(lm, rows, recipe, progress, output)
        seconds = time.monotonic() - started
        with atomic_directory(output, marker=CARD) as folder:
            lm.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            write_json(
                folder / CARD,
                {
                    "recipe": recipe.to_dict(),
                    "identity": identity,
                    "dialogues": {
                        "prompts": len(learned),
                        "replies": len(rows),
                        "left out as too long": too_long,
                        "reply tokens": sum(len(row.reply) for row in rows),
                        "prompt tokens": sum(len(row.prompt) for row in rows),
                    },
                    "steps": steps,
                    "final": history[-1] if history else {},
                    "curve": history,
                    "hashes": {"weights": weights_digest(folder), "tokenizer": tokenizer_digest(tokenizer)},
                    "versions": {name: version(name) for name in ("torch", "transformers", "trl", "tokenizers")},
                    "seconds": round(seconds, 1),
                },
            )
            for path in folder.iterdir():
                path.chmod(0o644)  # safetensors leaves its file to the owner alone
    return output


def _train(
    lm: LanguageModel, rows: Sequence[DialogueTokens], recipe: InstructionRecipe, progress: Progress, output: Path
) -> tuple[list[dict[str, float]], int]:
    """Train `lm.model` in place; the learning curve and the number of steps."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    steps = max(1, round(recipe.epochs * math.ceil(len(rows) / recipe.batch_size)))
    columns = {
        "input_ids": [[*row.prompt, *row.reply] for row in rows],
        "labels": [[-100] * len(row.prompt) + row.reply for row in rows],  # prompts carry no loss
    }
    with_gpu, config = torch.cuda.is_available(), lm.model.config
    kept = {name: getattr(config, name, None) for name in ("use_cache", "pad_token_id")}
    own_generation = copy.deepcopy(lm.model.generation_config)
    bar = ShowProgress(progress, output.name)
    with tempfile.TemporaryDirectory(prefix="detox-instruct-") as scratch:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of a name that trl still uses
            args = SFTConfig(
                output_dir=scratch,
                max_steps=steps,
                per_device_train_batch_size=recipe.batch_size // recipe.gradient_accumulation_steps,
                gradient_accumulation_steps=recipe.gradient_accumulation_steps,
                learning_rate=recipe.learning_rate,
                lr_scheduler_type=SCHEDULES[recipe.schedule],
                warmup_steps=round(recipe.warmup_share * steps),
                weight_decay=recipe.weight_decay,
                max_grad_norm=recipe.max_grad_norm,
                seed=recipe.seed,
                bf16=recipe.precision == "bf16",
                gradient_checkpointing=False,
                use_cpu=not with_gpu,
                max_length=None,
                logging_steps=max(1, steps // 50),
                logging_nan_inf_filter=False,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                dataloader_num_workers=0,
                dataloader_pin_memory=with_gpu,
            )
        trainer = SFTTrainer(
            lm.model,
            args=args,
            train_dataset=Dataset.from_dict(columns),
            processing_class=copy.deepcopy(lm.tokenizer),
            callbacks=[StopDiverged(), bar],
        )
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped at step {trainer.state.global_step} of {steps}; nothing was written to {output}, the same call starts "
                "again"
            ) from None
        finally:
            bar.close()
    for name, value in kept.items():
        setattr(config, name, value)
    lm.model.generation_config = own_generation
    lm.model.eval()
    names = ("step", "learning_rate", "grad_norm", "loss")
    history = [{name: entry[name] for name in names if name in entry} for entry in trainer.state.log_history]
    return [entry for entry in history if "loss" in entry], steps


def _identity(
    base: str | Path, lm: LanguageModel, dialogues: Sequence[Contrast], recipe: InstructionRecipe, template: str | None
) -> dict[str, Any]:
    """What makes this model this model; two calls with equal identities make the same."""
    folder = Path(base).expanduser()
    settings = {name: value for name, value in recipe.to_dict().items() if name != "gradient_accumulation_steps"}
    return {
        **settings,
        "base": weights_digest(folder) if folder.is_dir() else lm.fingerprint(),
        "tokenizer": tokenizer_digest(lm.tokenizer),
        "dialogues": digest(dialogues),
        "chat_template": None if template is None else hashlib.sha256(template.encode()).hexdigest(),
    }


def _finished(output: Path, identity: dict[str, Any], *, resume: str) -> bool:
    """Whether `output` holds what this run would make. A card without its weights may be replaced."""
    card = output / CARD
    if not card.is_file() or resume == "never" or not is_whole(output):
        return False
    found = json.loads(card.read_text("utf-8")).get("identity", {})
    digests = ("base", "tokenizer", "dialogues", "chat_template")
    other = [
        f"other {name}" if name in digests else f"{name} {found.get(name)!r} and not {identity[name]!r}"
        for name in identity
        if found.get(name) != identity[name]
    ]
    if other:
        raise InputError(
            f"{output} holds a model of another instruction tuning ({', '.join(other)}); give another output directory, or "
            "resume='never' to replace it"
        )
    return True
