"""From a recipe and data to a plain transformers checkpoint with a card."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PrinterCallback, TrainingArguments
from transformers.utils import logging

from detox.errors import InputError, UnknownName
from detox.files import atomic_directory, require_writable, write_json
from detox.pretraining.mixture import Mixture
from detox.pretraining.monitoring import HeldOut, Progress, ShowProgress, StopDiverged
from detox.pretraining.packing import PackedSequences
from detox.pretraining.recipe import SIZES, PretrainingRecipe
from detox.pretraining.trainer import SelectiveLossTrainer
from detox.pretraining.workdir import CARD, finished, open_work_dir, run_identity, weights_digest

Resume = Literal["auto", "never"]


def pretrain(
    recipe: PretrainingRecipe,
    data: PackedSequences | Mixture,
    tokenizer: Any,
    output_dir: str | Path,
    *,
    held_out: Mapping[str, PackedSequences] | None = None,
    resume: Resume = "auto",
    work_dir: str | Path | None = None,
    checkpoint_steps: int | None = None,
    log_steps: int | None = None,
    progress: Progress = True,
) -> Path:
    """Train a base model and save it as a plain transformers checkpoint with its tokenizer and `pretraining.json`.

    The model appears whole or not at all. While training, checkpoints are in `work_dir`; after a kill or Ctrl-C the
    same call goes on from the last one with the same losses as if nothing had happened, and once the model is there it
    returns at once. Random states of python, numpy and torch are as before afterwards.

    Args:
        recipe: how to train.
        data: sequences of the recipe's length, or a mixture to pack into such. When its sequences are used up they come
            again in another order; the card says how often.
        tokenizer: fast transformers tokenizer that the data was tokenised with.
        output_dir: where the model goes; a new or empty folder, or one that this function made.
        held_out: named sets to measure cross-entropy on while training; see `held_out_loss`.
        resume: "auto", or "never" to start over and replace what is there.
        work_dir: where checkpoints go; by default `output_dir` with ".work" after its name; removed at the end.
        checkpoint_steps: steps between checkpoints and held-out measurements, rounded up to a multiple of `log_steps`;
            by default a tenth of all.
        log_steps: steps between points of the learning curve; by default a hundredth of all.
        progress: True for a bar with time left on stderr, False for none, or a function of (step, steps).

    Returns:
        `output_dir`.

    Raises:
        OutputError: a place to write to cannot be written; found before any work.
        InputError: data that does not fit recipe or tokenizer, or folders that hold something else.
        DetoxError: the loss became NaN or infinite.
        KeyboardInterrupt: Ctrl-C; the message says where training goes on.
    """
    output, held_out = Path(output_dir), dict(held_out or {})
    work = Path(work_dir) if work_dir is not None else output.with_name(output.name + ".work")
    if resume not in ("auto", "never"):
        raise UnknownName("resume", resume, ("auto", "never"))
    require_writable(output.parent)
    sequences = data.pack(tokenizer, sequence_length=recipe.sequence_length) if isinstance(data, Mixture) else data
    for name, given in {"data": sequences, **held_out}.items():
        _require_fit(name, given, recipe, tokenizer)
    identity = run_identity(recipe, sequences, tokenizer, held_out)
    if finished(output, identity, resume=resume):
        return output
    checkpoint = open_work_dir(work, identity, resume=resume)
    every_log = log_steps or max(1, recipe.steps // 100)
    every_save = -(-(checkpoint_steps or max(1, recipe.steps // 10)) // every_log) * every_log
    started = time.monotonic()
    with _preserved_random_state(), _quiet_transformers():
        model = recipe.build_model(tokenizer)
        bar = ShowProgress(progress, output.name)
        trainer = SelectiveLossTrainer(
            model,
            _arguments(recipe, work, every_log, every_save),
            objective=recipe.objective,
            unlikelihood_weight=recipe.unlikelihood_weight,
            train_dataset=_EndlessOrder(sequences, recipe),
            data_collator=_same,
            callbacks=[HeldOut(held_out, every=every_save, batch_size=recipe.batch_size), StopDiverged(), bar],
        )
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped at step {trainer.state.global_step} of {recipe.steps}; checkpoints are in {work}, and the "
                "same call "
                "goes on from the last"
            ) from None
        finally:
            bar.close()
    model.config.use_cache = True
    seconds = time.monotonic() - started
    with atomic_directory(output) as folder, _quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        card = _card(recipe, sequences, held_out, identity, trainer.state.log_history, folder, model)
        resumed_at = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
        trained = (recipe.steps - resumed_at) * recipe.batch_size * recipe.sequence_length
        card["seconds"], card["resumed_at_step"] = round(seconds, 1), resumed_at
        card["tokens_per_second"] = round(trained / seconds)
        write_json(folder / CARD, card)
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors leaves its file to the owner alone
    shutil.rmtree(work)
    return output


def _require_fit(name: str, sequences: PackedSequences, recipe: PretrainingRecipe, tokenizer: Any) -> None:
    if sequences.sequence_length != recipe.sequence_length:
        raise InputError(
            f"{name}: sequences have {sequences.sequence_length} tokens and the recipe's sequence_length is "
            f"{recipe.sequence_length}; pack again or change the recipe"
        )
    largest, smallest = int(sequences.tokens.max()), int(sequences.tokens.min())
    if smallest < 0 or largest >= len(tokenizer):
        raise InputError(
            f"{name}: token ids are in [{smallest}, {largest}] and the tokenizer has {len(tokenizer)} tokens; use "
            "the tokenizer "
            "that made them"
        )


def _arguments(recipe: PretrainingRecipe, work: Path, log_steps: int, save_steps: int) -> TrainingArguments:
    schedules = {"cosine": "cosine_with_min_lr", "linear": "linear", "constant": "constant_with_warmup"}
    with_gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(work),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch_size // recipe.gradient_accumulation_steps,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=schedules[recipe.schedule],
        lr_scheduler_kwargs={"min_lr_rate": 0.1} if recipe.schedule == "cosine" else {},
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        bf16=recipe.precision == "bf16",
        use_cpu=not with_gpu,
        logging_steps=log_steps,
        logging_nan_inf_filter=False,
        save_steps=save_steps,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
        dataloader_num_workers=0,
        dataloader_pin_memory=with_gpu,
    )


def _card(
    recipe: PretrainingRecipe,
    sequences: PackedSequences,
    held_out: Mapping[str, PackedSequences],
    identity: dict[str, Any],
    history: Sequence[dict[str, Any]],
    folder: Path,
    model: Any,
) -> dict[str, Any]:
    kept = (
        "step",
        "learning_rate",
        "grad_norm",
        "loss",
        "likelihood",
        "likelihood_tokens",
        "unlikelihood",
        "unlikelihood_tokens",
    )
    training = [{name: entry[name] for name in kept if name in entry} for entry in history if "loss" in entry]
    watched = [{"step": entry["step"], **entry["held_out"]} for entry in history if "held_out" in entry]
    tokens = recipe.steps * recipe.batch_size * recipe.sequence_length
    return {
        "recipe": recipe.to_dict(),
        "identity": identity,
        "architecture": {
            "model_type": model.config.model_type,
            "vocab_size": model.config.vocab_size,
            **{name: getattr(model.config, name, None) for name in SIZES if name != "family"},
        },
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "data": sequences.card(),
        "held_out": {name: data.card() for name, data in held_out.items()},
        "trained_tokens": tokens,
        "epochs": tokens / sequences.tokens.size,
        "final": training[-1] | ({"held_out": watched[-1]} if watched else {}),
        "curve": {"training": training, "held_out": watched},
        "hashes": {"weights": weights_digest(folder), "data": identity["data"], "tokenizer": identity["tokenizer"]},
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }


def _same(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch


class _EndlessOrder(Dataset[dict[str, Tensor]]):
    """The sequences in the order of all steps: every epoch a permutation of its own, by the recipe's seed.

    The order is the data set's and no sampler's, so that it hangs on no random state and a resumed run finds its place.
    """

    def __init__(self, sequences: PackedSequences, recipe: PretrainingRecipe) -> None:
        self.sequences, self.length = sequences, recipe.steps * recipe.batch_size
        epochs = -(-self.length // len(sequences))
        self.order = np.concatenate(
            [np.random.default_rng([recipe.seed, epoch]).permutation(len(sequences)) for epoch in range(epochs)]
        )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        """A whole batch at once, which torch's loader asks for where it can."""
        rows = self.order[indices]
        tokens = torch.from_numpy(self.sequences.tokens[rows]).long()
        return {"input_ids": tokens, "labels": tokens, "risk": torch.from_numpy(self.sequences.risk[rows])}


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Only errors, and no bar for every file it saves: they would break up the bar of the training."""
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _preserved_random_state() -> Iterator[None]:
    """The random states of python, numpy and torch on the way out are those on the way in: a Trainer sets them all."""
    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)
