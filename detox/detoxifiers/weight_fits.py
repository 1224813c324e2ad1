"""How the methods that train weights train: on a twin of the model (`detox.models.twins`).

Whatever a Trainer does to it - hooks, flags, patched forwards, pad tokens - is not done to the model.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detox.detoxifiers.contract import hyperparameters
from detox.detoxifiers.trained_weights import Learned
from detox.errors import DetoxError, InputError, UnknownName
from detox.models import LanguageModel
from detox.models.adapters import adapter_config, adapter_tensors, lora_config
from detox.models.twins import twin
from detox.training.checkpoints import full_disk_in_one_line, open_work_dir
from detox.training.isolation import preserved_random_state, quiet_transformers
from detox.training.processes import first_alone, process_count, sequences_a_piece

logger = logging.getLogger(__name__)

WEIGHTS = ("lora", "full")
_LORA_FIELDS = ("lora_r", "lora_alpha", "lora_dropout", "target_modules", "lora_args")
# What decides how a fit runs and not what it learns: another value may go on from a checkpoint.
_NOT_LEARNED = ("strength", "allow_base_mismatch")


@dataclass(frozen=True)
class Materials:
    """What a method makes its trainer of.

    Attributes:
        model: a twin of the base model, to be trained.
        tokenizer: a copy of its own.
        peft_config: LoRA's; None where all weights are trained.
        arguments: of the trainer's configuration class, the user's among them.
    """

    model: Any
    tokenizer: Any
    peft_config: Any
    arguments: dict[str, Any]


def check_settings(method: Any) -> None:
    """Refuse hyperparameters of a weight method that make no sense.

    Raises:
        InputError, UnknownName: names the field, what was seen and what is expected.
    """
    name = type(method).__name__
    if method.weights not in WEIGHTS:
        raise UnknownName(f"{name} weights", method.weights, WEIGHTS)
    for field in ("lora_r", "epochs", "batch_size", "learning_rate"):
        if not getattr(method, field) > 0:
            raise InputError(f"{name}: {field} is {getattr(method, field)}; expected a number above 0")
    if method.max_length is not None and method.max_length < 2:
        raise InputError(f"{name}: max_length is {method.max_length}; expected at least 2 tokens, or None")
    if not 0 <= method.lora_dropout < 1:
        raise InputError(f"{name}: lora_dropout is {method.lora_dropout}; expected a share in [0, 1)")


def train(
    method: Any,
    lm: LanguageModel,
    make_trainer: Callable[[Materials], Any],
    *,
    data: str,
    length: int,
    work_dir: str | Path | None,
    resume: str,
) -> Learned:
    """Train a twin of `lm` and return what it learned; `lm` is as it was.

    Args:
        method: the detoxifier; its hyperparameters set up adapter and optimizer.
        lm: the base; its edits act in training.
        make_trainer: a transformers or TRL trainer of the materials.
        data: digest of the training data.
        length: tokens of the longest sequence.
        work_dir: where checkpoints are kept, from which an interrupted fit goes on; None for none.
        resume: "auto" or "never".

    Raises:
        InputError: checkpoints of another fit, a trainer argument that does not exist, LoRA settings that do not fit the model.
        DetoxError: the loss became NaN or infinite; names the examples.
        KeyboardInterrupt: Ctrl-C; says whether there is something to go on from.
    """
    if resume not in ("auto", "never"):
        raise UnknownName("resume", resume, ("auto", "never"))
    lm.require_current()
    name = type(method).__name__
    full = method.weights == "full"
    kept = {key: value for key, value in hyperparameters(method).items() if key not in _NOT_LEARNED}
    identity = {"method": name, **kept, "base": lm.fingerprint(), "data": data}
    with ExitStack() as stack:
        checkpoint = None
        if work_dir is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="detox-fit-")))
        else:
            folder = Path(work_dir)
            found = first_alone(lambda: str(open_work_dir(folder, identity, resume=resume) or ""))
            checkpoint = found or None
            stack.enter_context(full_disk_in_one_line(folder))
        stack.enter_context(preserved_random_state())
        stack.enter_context(quiet_transformers())
        stack.enter_context(_quiet_warnings())
        model = twin(lm.model, own_weights=full)
        model.train()
        peft_config = None if full else lora_config(model, _lora_settings(method))
        arguments = _arguments(method, lm, folder, length, keep=work_dir is not None)
        trainer = make_trainer(Materials(model, copy.deepcopy(lm.tokenizer), peft_config, arguments))
        _watch(trainer, name)
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except KeyboardInterrupt:
            on = f"the same call goes on from {folder}" if work_dir is not None else "nothing was kept (no work_dir)"
            raise KeyboardInterrupt(
                f"{name}: stopped at step {trainer.state.global_step} of {trainer.state.max_steps}; {on}"
            ) from None
        trained = trainer.accelerator.unwrap_model(trainer.model)
        history = [entry for entry in trainer.state.log_history if "loss" in entry]
        record = {"steps": trainer.state.global_step, "curve": _thinned(history)}
        if full:
            own = dict(lm.model.named_parameters())
            after = {key: value.detach().cpu() for key, value in trained.named_parameters()}
            changed = {key: value for key, value in after.items() if not torch.equal(value, own[key].detach().cpu())}
            return Learned(changed, None, record)
        return Learned(adapter_tensors(trained), adapter_config(trained), record)


def _lora_settings(method: Any) -> dict[str, Any]:
    names = method.target_modules
    settings = {
        "r": method.lora_r, "lora_alpha": method.lora_alpha, "lora_dropout": method.lora_dropout,
        "target_modules": names if names == "all-linear" else [name.strip() for name in names.split(",")],
    }  # fmt: skip
    return {**settings, **method.lora_args}


def _arguments(method: Any, lm: LanguageModel, folder: Path, length: int, *, keep: bool) -> dict[str, Any]:
    """Of a TrainingArguments: ours where TRL's defaults do not fit (bf16 raises on CPUs), then the user's."""
    accumulation = int(method.trainer_args.get("gradient_accumulation_steps", 1))
    given = {
        "output_dir": str(folder),
        "num_train_epochs": method.epochs,
        "per_device_train_batch_size": sequences_a_piece(method.batch_size, accumulation, process_count()),
        "learning_rate": method.learning_rate,
        "seed": method.seed,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": torch.device(lm.model.device).type == "cpu",
        "dataloader_pin_memory": torch.device(lm.model.device).type == "cuda",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if keep else "no",
        "save_steps": 0.1,
        "save_total_limit": 1,
    }
    return {**given, "max_length": length, **method.trainer_args}


def configured(config_class: type, arguments: Mapping[str, Any]) -> Any:
    """A trainer's configuration.

    Raises:
        InputError: an argument that it does not have, or a value that it refuses.
    """
    try:
        return config_class(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"trainer_args: {str(error).splitlines()[0]}; see {config_class.__name__}") from error


@contextmanager
def _quiet_warnings() -> Iterator[None]:
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    names = ("trl", "peft", "accelerate")
    levels = {name: logging.getLogger(name).level for name in names}
    bars = not are_progress_bars_disabled()
    disable_progress_bars()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            if bars:
                enable_progress_bars()
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _watch(trainer: Any, name: str) -> None:
    """End a run whose loss is no number, and say at which examples; report progress."""
    from transformers import PrinterCallback

    from detox.training.progress import ShowProgress

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ShowProgress(progress=_reporter(name), description=name))
    compute = trainer.compute_loss

    def checked(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        found = compute(model, inputs, *args, **kwargs)
        loss = found[0] if isinstance(found, tuple) else found
        if not bool(torch.isfinite(loss.detach()).all()):
            raise DetoxError(
                f"{name}: the loss is {float(loss.detach().float().mean())} at step {trainer.state.global_step + 1}, at "
                f"{_examples(trainer, inputs)}; look at them, or try a lower learning_rate"
            )
        return found

    trainer.compute_loss = checked


def _examples(trainer: Any, inputs: Mapping[str, Any]) -> str:
    """Which rows of the training data a batch holds, by their tokens."""
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    if ids is None or mask is None:
        return "this batch"
    held = {tuple(row[keep.bool()].tolist()) for row, keep in zip(ids.cpu(), mask.cpu(), strict=True)}
    rows = [
        number
        for number, row in enumerate(trainer.train_dataset)
        if any(tuple(whole[: len(one)]) == one for whole in _sequences(row) for one in held if one)
    ]
    return f"rows {', '.join(map(str, rows[:16]))} of the training data" if rows else "this batch"


def _sequences(row: Mapping[str, Any]) -> list[list[int]]:
    """The token ids of a row, as TRL's trainers and ours prepare them."""
    if "safe" in row:
        return [[*context, *continuation] for side in ("safe", "toxic") for context, continuation in row[side]]
    if "input_ids" in row:
        return [row["input_ids"]]
    return [
        [*row.get("prompt_ids", []), *row[key]]
        for key in ("chosen_ids", "rejected_ids", "completion_ids")
        if key in row
    ]


def _reporter(name: str) -> Callable[[int, int], None]:
    import time

    started, said = time.monotonic(), [time.monotonic()]

    def report(step: int, steps: int) -> None:
        now = time.monotonic()
        if now - said[0] >= 10 or step == steps:
            said[0] = now
            left = (now - started) / max(step, 1) * (steps - step)
            logger.info("%s: step %d of %d (about %.1f min left)", name, step, steps, left / 60)

    return report


def _thinned(history: Sequence[Mapping[str, Any]], most: int = 50) -> list[dict[str, Any]]:
    """At most so many entries of a learning curve, the last among them, without what measures the machine."""
    step = max(1, -(-len(history) // most))
    kept = [entry for index, entry in enumerate(history) if (len(history) - 1 - index) % step == 0]
    # A NaN or an infinity (the gradient of an empty batch) is missing here.
    return [
        {key: value for key, value in entry.items() if isinstance(value, int | float) and abs(value) < float("inf")}
        for entry in kept
    ]
