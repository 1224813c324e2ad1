"""From a recipe and data to a plain transformers checkpoint with a card."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PrinterCallback, TrainingArguments

from detox.errors import InputError, require_known
from detox.files import atomic_directory, require_writable, write_json, write_text
from detox.pretraining.architecture import model_counts
from detox.pretraining.arms import apply_arm, objective_of
from detox.pretraining.card import Run, pretraining_card, readme
from detox.pretraining.cost import disk_bytes, flops_per_token
from detox.pretraining.cost import peak_flops as known_peak
from detox.pretraining.feeding import EndlessOrder, as_it_is, packed, require_fit
from detox.pretraining.mixture import Mixture
from detox.pretraining.monitoring import HeldOut
from detox.pretraining.packing import PackedSequences
from detox.pretraining.recipe import PretrainingRecipe
from detox.pretraining.schedule import ContinuedSchedule
from detox.pretraining.tracking import installed_trackers, logs_beside
from detox.pretraining.trainer import SelectiveLossTrainer
from detox.pretraining.workdir import (
    CARD,
    finished,
    require_same_sharding,
    run_identity,
)
from detox.training.checkpoints import full_disk_in_one_line, open_work_dir, require_space
from detox.training.isolation import preserved_random_state, quiet_transformers
from detox.training.processes import (
    allow_sharding_on_cpus,
    device_name,
    first_alone,
    process_count,
    sequences_a_piece,
    sharding,
)
from detox.training.progress import Progress, ShowProgress, StopDiverged, Throughput

Resume = Literal["auto", "never"]
_FINISHED = "finished"
_PATIENCE = 12 * 3600  # seconds that processes wait for the first, which packs and writes alone


def pretrain(
    recipe: PretrainingRecipe,
    data: PackedSequences | Mixture,
    tokenizer: Any,
    output_dir: str | Path,
    *,
    arm: str | None = None,
    held_out: Mapping[str, PackedSequences] | None = None,
    resume: Resume = "auto",
    work_dir: str | Path | None = None,
    store: str | Path | None = None,
    checkpoint_steps: int | None = None,
    log_steps: int | None = None,
    progress: Progress = True,
    report_to: str | Sequence[str] = "none",
    peak_flops: float | None = None,
) -> Path:
    """Train a base model and save it as a plain transformers checkpoint with its tokenizer, card and `pretraining.json`.

    The model appears whole or not at all. While training, checkpoints are in `work_dir`; after a kill or Ctrl-C the
    same call goes on from the last one with the same losses as if nothing had happened, and once the model is there it
    returns at once. Random states of python, numpy and torch are as before afterwards.

    Under `accelerate launch` or `torchrun` every process calls this with the same values: the batch is shared among
    them, the first alone writes, and how the model is spread over them (FSDP2, DeepSpeed) is the launcher's.

    Args:
        recipe: how to train. Its batch size is that of all processes together.
        data: sequences of the recipe's length, or a mixture to pack into such. When its sequences are used up they come
            again in another order; the card says how often.
        tokenizer: fast transformers tokenizer that the data was tokenised with.
        output_dir: where the model goes; a new or empty folder, or one that this function made.
        arm: one of `detox.pretraining.ARMS`: decides the objective and what is read of a mixture; recorded. None: the
            recipe's objective, the data as it is.
        held_out: named sets to measure cross-entropy on while training; see `held_out_loss`.
        resume: "auto", or "never" to start over and replace what is there.
        work_dir: where checkpoints go; by default `output_dir` with ".work" after its name; removed at the end.
        store: folder where a mixture is packed by the first process and mapped from by all, kept for the next run; None
            packs it in the memory of each.
        checkpoint_steps: steps between checkpoints and held-out measurements, rounded up to a multiple of `log_steps`;
            by default a tenth of all.
        log_steps: steps between points of the learning curve; by default a hundredth of all.
        progress: True for a bar with time left on stderr, False for none, or a function of (step, steps).
        report_to: "trackio", "wandb", "tensorboard", or several; "none" for none.
        peak_flops: operations a second of one device, for the MFU; by default the table's for its name, in bf16 alone.

    Returns:
        `output_dir`.

    Raises:
        OutputError: a place to write to cannot be written or is too small, found before any work, or is full.
        InputError: data that does not fit recipe or tokenizer, a batch that the processes cannot share, or folders that
            hold something else.
        UnknownName: no such arm, tracker or way to resume.
        MissingData: a tracker that is not installed.
        DetoxError: the loss became NaN or infinite.
        KeyboardInterrupt: Ctrl-C; the message says where training goes on.
    """
    output, held_out = Path(output_dir), dict(held_out or {})
    work = Path(work_dir) if work_dir is not None else output.with_name(output.name + ".work")
    require_known("resume", resume, ("auto", "never"))
    recipe, data = for_arm(recipe, data, arm)
    every_log = log_steps or max(1, recipe.steps // 100)
    every_save = -(-(checkpoint_steps or max(1, recipe.steps // 10)) // every_log) * every_log
    trackers = installed_trackers(report_to)
    with quiet_transformers():
        if "ACCELERATE_MIXED_PRECISION" in os.environ:  # a launcher's; the recipe decides, or the record would be false
            os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if recipe.precision == "bf16" else "no"
        arguments = _arguments(recipe, work, every_log, every_save)
        arguments.report_to, arguments.run_name = trackers, output.name
        arguments.device  # noqa: B018 - sets up the processes
        allow_sharding_on_cpus()
        arguments._n_gpu = min(arguments._n_gpu, 1)  # a process has one device; several need a launcher
    identity: dict[str, Any] = {}

    def prepare() -> str | None:
        for name, given in {"data": sequences, **held_out}.items():
            require_fit(name, given, recipe, tokenizer)
        identity.update(run_identity(recipe, sequences, tokenizer, held_out, arm=arm))
        if finished(output, identity, resume=resume):
            return _FINISHED
        found = open_work_dir(work, identity, resume=resume)
        if found is not None:
            require_same_sharding(found)
        return None if found is None else str(found)

    first_alone(lambda: require_writable(output.parent))
    sequences = packed(data, tokenizer, recipe, store)
    checkpoint = first_alone(prepare)
    if checkpoint == _FINISHED:
        return output
    started = time.monotonic()
    with preserved_random_state(), quiet_transformers(), logs_beside(output), full_disk_in_one_line(work):
        model = recipe.build_model(tokenizer)
        parameters, multiplied = model_counts(model)
        first_alone(lambda: require_space(work, disk_bytes(parameters)))
        if recipe.gradient_checkpointing:
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        device = device_name()
        peak = peak_flops or (known_peak(device) if recipe.precision == "bf16" else None)
        clock = Throughput(
            tokens_a_step=recipe.batch_size * recipe.sequence_length,
            flops_a_token=flops_per_token(model.config, multiplied, recipe.sequence_length),
            peak=None if peak is None else peak * process_count(),
        )
        bar = ShowProgress(progress, output.name)
        watch = HeldOut(held_out, every=every_save, batch_size=arguments.per_device_train_batch_size, clock=clock)
        trainer = SelectiveLossTrainer(
            model,
            arguments,
            objective=recipe.objective,
            unlikelihood_weight=recipe.unlikelihood_weight,
            denominator=recipe.denominator,
            train_dataset=EndlessOrder(sequences, recipe),
            data_collator=as_it_is,
            callbacks=[ContinuedSchedule(recipe), watch, StopDiverged(), bar],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.callback_handler.callbacks.insert(0, clock)  # first, so that trackers see what it adds
        if trackers:
            watch.report = partial(_report, trainer)
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped at step {trainer.state.global_step} of {recipe.steps}; checkpoints are in {work}, and the "
                "same call goes on from the last"
            ) from None
        finally:
            bar.close()
        sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded else None
    model.config.use_cache = True

    def save() -> None:
        run = Run(
            sequences=sequences,
            held_out=held_out,
            identity=identity,
            arm=arm,
            treatment=(sequences.mixture or {}).get("treatment"),
            history=trainer.state.log_history,
            parameters=parameters,
            machine={"processes": process_count(), "device": device, "sharding": sharding() if sharded else None},
            speed=clock.card(),
            seconds=time.monotonic() - started,
            resumed_at_step=0 if checkpoint is None else int(Path(checkpoint).name.rpartition("-")[2]),
        )
        with full_disk_in_one_line(work), atomic_directory(output) as folder, quiet_transformers():
            model.save_pretrained(folder, state_dict=weights)
            tokenizer.save_pretrained(folder)
            card = pretraining_card(recipe, run, model.config, folder)
            write_json(folder / CARD, card)
            write_text(folder / "README.md", readme(card, output.name))
            for path in folder.iterdir():
                path.chmod(0o644)  # safetensors leaves its file to the owner alone
        shutil.rmtree(work)

    first_alone(save)
    return output


def _report(trainer: SelectiveLossTrainer, logs: dict[str, float]) -> None:
    """Give numbers to the trackers; the step's own entry is still to come."""
    due = trainer.control.should_log
    trainer.callback_handler.on_log(trainer.args, trainer.state, trainer.control, logs)
    trainer.control.should_log = due


def for_arm(
    recipe: PretrainingRecipe, data: PackedSequences | Mixture, arm: str | None
) -> tuple[PretrainingRecipe, PackedSequences | Mixture]:
    """The recipe with the arm's objective, and what the arm reads of the data.

    Raises:
        UnknownName: no such arm.
        InputError: the recipe asks for another objective, or packed data for an arm that reads other documents.
    """
    if arm is None:
        return recipe, data
    objective = objective_of(arm)
    if recipe.objective not in ("full", objective):
        raise InputError(
            f"arm {arm!r} has the objective {objective!r} and the recipe's is {recipe.objective!r}; give one of them"
        )
    if isinstance(data, Mixture):
        return replace(recipe, objective=objective), apply_arm(arm, data)
    if arm in ("filtered", "clean"):
        raise InputError(f"arm {arm!r} reads other documents, and the data is packed already; give a Mixture")
    return replace(recipe, objective=objective), data


def _arguments(recipe: PretrainingRecipe, work: Path, log_steps: int, save_steps: int) -> TrainingArguments:
    schedules = {"cosine": "cosine_with_min_lr", "linear": "linear", "constant": "constant_with_warmup"}
    with_gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(work),
        max_steps=recipe.steps,
        per_device_train_batch_size=sequences_a_piece(
            recipe.batch_size, recipe.gradient_accumulation_steps, process_count()
        ),
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
        ddp_timeout=_PATIENCE,
        ddp_find_unused_parameters=False,
    )
