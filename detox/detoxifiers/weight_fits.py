"""How the methods that train weights train: on a twin of the model (`detox.models.twins`).

Whatever a Trainer does to it - hooks, flags, patched forwards, pad tokens - is not done to the model.
"""

from __future__ import annotations

import copy
import gc
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detox.detoxifiers.contract import describe_fit, hyperparameters
from detox.detoxifiers.fit_watch import watch
from detox.detoxifiers.trained_weights import Learned
from detox.errors import InputError, require_known
from detox.models import LanguageModel
from detox.models.adapters import adapter_config, adapter_tensors, has_adapters, lora_config
from detox.models.edits import state_of
from detox.models.twins import twin
from detox.training.checkpoints import discard_unbegun, full_disk_in_one_line, held, open_work_dir
from detox.training.isolation import preserved_random_state, quiet_transformers
from detox.training.processes import first_alone, is_first, process_count, sequences_a_piece, start_processes

WEIGHTS = ("lora", "full")
# What decides how a fit runs and not what it learns: another value may go on from a checkpoint.
_NOT_LEARNED = ("strength", "allow_base_mismatch")
_OURS = {
    "output_dir": "work_dir",
    "max_length": "max_length",
    "num_train_epochs": "epochs",
    "seed": "seed",
}  # by their own fields


@dataclass(frozen=True)
class Materials:
    """What a method makes its trainer of.

    Attributes:
        model: a twin of the base model, to be trained.
        tokenizer: a copy of its own.
        peft_config: LoRA's; None where all weights are trained.
        arguments: of the trainer's configuration class, the user's among them.
        reference: another twin, untrained, where all weights are trained; None where the adapter can be switched off instead.
    """

    model: Any
    tokenizer: Any
    peft_config: Any
    arguments: dict[str, Any]
    reference: Any = None


def check_settings(method: Any) -> None:
    """Refuse hyperparameters of a weight method that make no sense.

    Raises:
        InputError, UnknownName: names the field, what was seen and what is expected.
    """
    name = type(method).__name__
    require_known(f"{name} weights", method.weights, WEIGHTS)
    for field in ("lora_r", "epochs", "batch_size", "learning_rate"):
        if not getattr(method, field) > 0:
            raise InputError(f"{name}: {field} is {getattr(method, field)}; expected a number above 0")
    if method.batch_size != int(method.batch_size):
        raise InputError(f"{name}: batch_size is {method.batch_size}; expected a whole number")
    for key in method.trainer_args:
        if key in _OURS:
            raise InputError(f"{name}: trainer_args has {key!r}; use {_OURS[key]}= instead")
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
    require_known("resume", resume, ("auto", "never"))
    lm.require_current()
    name = type(method).__name__
    full = method.weights == "full"
    kept = {key: value for key, value in hyperparameters(method).items() if key not in _NOT_LEARNED}
    if full and has_adapters(lm.model):
        raise InputError(
            f"{name}: weights='full' cannot be trained under an adapter; export the handle, and train that checkpoint"
        )
    tokenizer = describe_fit(lm, ())["tokenizer"]
    asked = {"method": name, **kept, "base": lm.fingerprint(), "tokenizer": tokenizer, "data": data}
    identity = json.loads(json.dumps(asked, default=str))
    with ExitStack() as stack:
        checkpoint = None
        if work_dir is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="detox-fit-")))
        else:
            folder = Path(work_dir)
            start_processes(cpu=torch.device(lm.model.device).type == "cpu")
            if is_first():
                stack.enter_context(held(folder))
            checkpoint = first_alone(lambda: _opened(folder, identity, resume)) or None
            stack.enter_context(full_disk_in_one_line(folder))
        stack.enter_context(_kept_receipts(lm))
        stack.enter_context(preserved_random_state())
        stack.enter_context(quiet_transformers())
        stack.enter_context(_quiet_warnings())
        model = twin(lm.model, own_weights=full)
        model.train()
        peft_config = None if full else lora_config(model, _lora_settings(method))
        arguments = _arguments(method, lm, folder, length, keep=work_dir is not None)
        reference = twin(lm.model).eval().requires_grad_(False) if full else None
        materials = Materials(model, copy.deepcopy(lm.tokenizer), peft_config, arguments, reference)
        try:
            trainer = make_trainer(materials)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{name}: stopped before the first step; nothing was kept") from None
        except (TypeError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(f"{name}: the trainer refuses the data or its settings: {reason[0]}") from error
        watch(trainer, name)
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except KeyboardInterrupt:
            on = f"the same call goes on from {folder}" if work_dir is not None else "nothing was kept (no work_dir)"
            raise KeyboardInterrupt(
                f"{name}: stopped at step {trainer.state.global_step} of {trainer.state.max_steps}; {on}"
            ) from None
        except ValueError as error:  # a loss that TRL does not know, a batch that it cannot make
            raise InputError(
                f"{name}: the trainer refuses the data or its settings: {str(error).splitlines()[0]}"
            ) from error
        trained = trainer.accelerator.unwrap_model(trainer.model)
        history = [entry for entry in trainer.state.log_history if "loss" in entry]
        measured = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
        record = {
            "steps": trainer.state.global_step,
            "curve": _thinned(history),
            **({"held_out": _thinned(measured)} if measured else {}),
            **getattr(trainer, "facts", dict)(),
        }
        stack.callback(_let_go, trainer)
        if full:
            own = dict(lm.model.named_parameters())
            after = {key: value.detach().cpu() for key, value in trained.named_parameters()}
            changed = {key: value for key, value in after.items() if not torch.equal(value, own[key].detach().cpu())}
            return Learned(changed, None, record)
        return Learned(adapter_tensors(trained), adapter_config(trained), record)


def _opened(folder: Path, identity: dict[str, Any], resume: str) -> str:
    """The checkpoint to go on from, as text; empty for none."""
    if resume == "auto":
        discard_unbegun(folder, keys=("method", "base", "data"))
    return str(open_work_dir(folder, identity, resume=resume) or "")


def _let_go(trainer: Any) -> None:
    """Free the twin and the optimizer's state now: a trainer and its callbacks hold each other."""
    vars(trainer).clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _kept_receipts(lm: LanguageModel) -> Iterator[None]:
    """The twin's hooks are the model's own edits and count for them; what they counted in training is no doing of the handle."""
    edits = state_of(lm.model).edits
    before = [copy.deepcopy(edit.receipt) for edit in edits]
    try:
        yield
    finally:
        for edit, receipt in zip(edits, before, strict=True):
            vars(edit.receipt).update(vars(receipt))


def _lora_settings(method: Any) -> dict[str, Any]:
    names = method.target_modules
    settings = {
        "r": method.lora_r, "lora_alpha": method.lora_alpha, "lora_dropout": method.lora_dropout,
        "target_modules": names if names == "all-linear" else [name.strip() for name in names.split(",")],
    }  # fmt: skip
    return {**settings, **method.lora_args}


def _arguments(method: Any, lm: LanguageModel, folder: Path, length: int, *, keep: bool) -> dict[str, Any]:
    """Of a TrainingArguments: ours where TRL's defaults do not fit (bf16 raises on CPUs), then the user's."""
    accumulation = int(method.trainer_args.get("gradient_accumulation_steps") or 1)
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


def _thinned(history: Sequence[Mapping[str, Any]], most: int = 50) -> list[dict[str, Any]]:
    """At most so many entries of a learning curve, the last among them, without what measures the machine."""
    step = max(1, -(-len(history) // most))
    kept = [entry for index, entry in enumerate(history) if (len(history) - 1 - index) % step == 0]
    # A NaN or an infinity (the gradient of an empty batch) is missing here.
    return [
        {key: value for key, value in entry.items() if isinstance(value, int | float) and abs(value) < float("inf")}
        for entry in kept
    ]
