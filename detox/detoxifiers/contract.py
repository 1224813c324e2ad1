"""What every detoxifier is, and its envelope on disk.

A detoxifier is one file in this folder with one final dataclass in it. Its init fields are its hyperparameters (and its
command-line options); `fit` sets attributes that end in an underscore; `applied` yields a safer LanguageModel for the length of a
block and leaves nothing behind.
"""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from detox.data.contrasts import Contrast
from detox.errors import BaseMismatch, NotExportable, NotFitted
from detox.files import atomic_directory, write_json, write_text
from detox.models import LanguageModel

FORMAT = 1
CONFIG_NAME = "detoxifier.json"

# Classes found by "path.py:Class", so that what they save can be loaded again.
ORIGINS: dict[type, str] = {}


@dataclass(frozen=True)
class Capabilities:
    """What a method is able to do; a point of the contract that it cannot keep is excluded, with the reason.

    Attributes:
        needs_fit: learns from contrasts; `applied` before `fit` raises NotFitted.
        bound_to_base: what was learned holds for one base model only; on another BaseMismatch.
        directional: lowers toxic against safe continuations by construction, so that the direction can be tested.
        exportable: can be baked into a plain checkpoint, at least for some families.
        dial: whether strengths between 0 and 1, and above, mean something; False for on/off methods.
    """

    needs_fit: bool
    bound_to_base: bool
    directional: bool
    exportable: bool
    dial: bool = True


@dataclass(frozen=True)
class Certificate:
    """How close an exported checkpoint is to the method applied in memory. `certificate.json` beside the checkpoint holds more.

    Attributes:
        directory: where the checkpoint is.
        semantics: "exact" (the same function up to rounding) or "approximate" (`warnings` and the file say in what).
        bit_equal: whether all logits are equal bit for bit.
        max_logit_difference, mean_logit_difference: between the handle and the reloaded checkpoint, over the prompts' tokens.
        bound: what rounding may make the largest difference, in this dtype and at this size of logits.
        greedy_agreement: share of equal tokens, over 16 new tokens a prompt.
        prompts: how many were compared.
        dtype: of the weights.
        family_from, family_to: model_type before and after; they differ where another class computes the same and has the bias.
        runtimes: what happens to folded biases of `family_to`, by runtime: `detox.models.runtimes.row`.
        warnings: what to know before the checkpoint is served.
    """

    directory: str
    semantics: str
    bit_equal: bool
    max_logit_difference: float
    mean_logit_difference: float
    bound: float
    greedy_agreement: float
    prompts: int
    dtype: str
    family_from: str
    family_to: str
    runtimes: dict[str, Any]
    warnings: list[str]


class Detoxifier(abc.ABC):
    """A subclass is a final dataclass: its init fields are its hyperparameters; `fit` sets attributes that end in an underscore."""

    capabilities: ClassVar[Capabilities]
    came_later: ClassVar[tuple[str, ...]] = ()
    """Fields that came after records were made: at its default, such a field is no part of the identity of a fit."""
    controls: ClassVar[dict[str, dict[str, Any]]] = {}
    """What the method must beat, by name: settings under which it keeps its size and has lost its meaning."""

    @property
    def default_strength(self) -> float:
        """What `strength=None` means."""
        return 1.0

    @abc.abstractmethod
    def fit(
        self,
        lm: LanguageModel,
        contrasts: Sequence[Contrast],
        *,
        eval_contrasts: Sequence[Contrast] | None = None,
        work_dir: str | Path | None = None,
        resume: str = "auto",
    ) -> Self:
        """Learn from contrasts on `lm`, which is left as it was.

        Args:
            lm: the base model.
            contrasts: prompts with safe and toxic continuations.
            eval_contrasts: held out for what is chosen during the fit (heads, early stopping); None splits `contrasts`.
            work_dir: where a long fit keeps its checkpoints; None for none.
            resume: "auto" goes on from a checkpoint in `work_dir`, "never" starts anew.

        Returns:
            The detoxifier itself. A second fit forgets the first.
        """

    @abc.abstractmethod
    def applied(self, lm: LanguageModel, *, strength: float | None = None) -> AbstractContextManager[LanguageModel]:
        """The safer language model, for the length of a `with` block.

        Args:
            lm: the base model (or another method's handle: methods nest).
            strength: 0 is the base model bit for bit; None is the method's default.
        """

    @abc.abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `fit` learned: (JSON values, tensors by name). Both empty for a method that learns nothing."""

    def files(self) -> tuple[str, dict[str, Any]]:
        """Where `save_pretrained` puts the tensors, and other files beside them: JSON objects, or text, by name."""
        return "tensors.safetensors", {}

    @abc.abstractmethod
    def restore(self, values: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Take back what `state` gave."""

    def export(
        self,
        lm: LanguageModel,
        directory: str | Path,
        *,
        strength: float | None = None,
        approximate: bool = False,
        prompts: Sequence[str] | None = None,
    ) -> Certificate:
        """Bake the change into a plain transformers checkpoint, reload it, compare it, and say how far it is off.

        Changes of weights are merged, constant shifts folded into biases, a system text written into the chat template; what is
        on `lm` already goes in as well.

        Args:
            lm: the base model, or another method's handle. It is left as it was.
            directory: appears whole, or not at all; one that an earlier export wrote is replaced.
            strength: as in `applied`.
            approximate: fold a shift that acts at some positions only into a bias, which acts at all of them.
            prompts: texts to compare on; None takes 64 seeded rows of random tokens.

        Raises:
            NotExportable: with the reason and the alternatives.
            OutputError: the place cannot be written, or holds something else.
        """
        if not self.capabilities.exportable:
            raise NotExportable(
                f"{type(self).__name__} has no export; save_pretrained keeps it, and `with detox.load(...).applied(lm)` applies it"
            )
        from detox.detoxifiers.exporting import export

        return export(self, lm, directory, strength=strength, approximate=approximate, prompts=prompts)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `detoxifier.json`, and the tensors (see `files`) where something was learned. The folder appears whole or not at all.

        Raises:
            NotFitted: nothing was learned yet.
            OutputError: the place cannot be written, or holds something other than a saved detoxifier.
        """
        require_fitted(self)
        values, tensors = self.state()
        tensors_file, others = self.files()
        envelope = {
            "format": FORMAT,
            "method": method_name(type(self)),
            "hyperparameters": hyperparameters(self),
            "learned": values,
            "tensors": tensors_file if tensors else None,
            "fitted_on": getattr(self, "fitted_on_", None),
            "versions": versions(),
            "warning": "reversing the sign of this edit makes a model more toxic"
            if self.capabilities.directional
            else None,
        }
        with atomic_directory(directory, marker=CONFIG_NAME) as folder:
            write_json(folder / CONFIG_NAME, envelope)
            if tensors:
                from safetensors.torch import save_file

                whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
                save_file(whole, folder / tensors_file, metadata={"format": "pt"})
                (folder / tensors_file).chmod(0o644)  # safetensors leaves its file to the owner alone
            for name, content in others.items():
                (write_text if isinstance(content, str) else write_json)(folder / name, content)


def method_name(cls: type[Detoxifier]) -> str:
    """The name under which `find` finds this class."""
    package, _, file = cls.__module__.rpartition(".")
    return file if package == __package__ else ORIGINS.get(cls, f"{cls.__module__}:{cls.__qualname__}")


def hyperparameters(detoxifier: Detoxifier) -> dict[str, Any]:
    """Init fields and their values."""
    kept = {f.name for f in fields(detoxifier) if f.init}  # type: ignore[arg-type]
    return {name: value for name, value in asdict(detoxifier).items() if name in kept}  # type: ignore[call-overload]


def identifying(detoxifier: Detoxifier) -> dict[str, Any]:
    """The hyperparameters that make one fit another than the next, and than those of the past."""
    defaults = {f.name: f.default for f in fields(detoxifier)}  # type: ignore[arg-type]
    unsaid = {name for name in detoxifier.came_later if getattr(detoxifier, name) == defaults[name]}
    return {name: value for name, value in hyperparameters(detoxifier).items() if name not in unsaid}


def require_fitted(detoxifier: Detoxifier) -> None:
    """Raise NotFitted where the method learns and has not."""
    if detoxifier.capabilities.needs_fit and not hasattr(detoxifier, "fitted_on_"):
        name = type(detoxifier).__name__
        raise NotFitted(
            f"{name} has learned nothing yet; call {name}(...).fit(lm, contrasts) first, or detox.load a saved one"
        )


def describe_fit(lm: LanguageModel, contrasts: Sequence[Contrast]) -> dict[str, Any]:
    """What a fit must remember of its base and its data, for `fitted_on_`."""
    tokenizer = getattr(lm.tokenizer, "backend_tokenizer", None)
    vocabulary = tokenizer.to_str() if tokenizer is not None else json.dumps(sorted(lm.tokenizer.get_vocab().items()))
    return {
        "base": lm.fingerprint(),
        "name": str(getattr(lm.model.config, "_name_or_path", "") or "") or None,
        "family": lm.model.config.model_type,
        "tokenizer": hashlib.sha256(vocabulary.encode()).hexdigest()[:32],
        "contrasts": {"count": len(contrasts), "sha256": training_digest(contrasts)},
    }


def fit_digest(contrasts: Any, eval_contrasts: Any = None) -> str:
    """SHA-256 of what a fit learns from and, where there is such data, of what it is watched with."""
    digests = [training_digest(data) for data in (contrasts, eval_contrasts) if data is not None]
    return digests[0] if len(digests) == 1 else hashlib.sha256("/".join(digests).encode()).hexdigest()


def training_digest(contrasts: Any) -> str:
    """SHA-256 of what a fit learned from: contrasts, or a dataset's rows."""
    from detox.data.contrasts import digest

    if not hasattr(contrasts, "column_names"):
        return digest(contrasts)
    sha = hashlib.sha256(json.dumps(contrasts.column_names).encode())
    for row in contrasts:
        sha.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
    return sha.hexdigest()


def require_base(detoxifier: Detoxifier, lm: LanguageModel) -> None:
    """Raise BaseMismatch where `lm` is not the model of the fit: other weights, or other active edits.

    System turn and prefix may differ; they are text, and the method reads activations of whatever text there is.
    """
    fitted = getattr(detoxifier, "fitted_on_", None)
    if fitted is None or getattr(detoxifier, "allow_base_mismatch", False):
        return
    was, now = fitted["base"].split(":"), lm.fingerprint().split(":")
    for part, what in enumerate(("weights", "active edits")):
        if was[part] != now[part]:
            raise BaseMismatch(
                f"{type(detoxifier).__name__} was fitted on a model with {what} {was[part][:12]}, this one has {now[part][:12]}; "
                "fit it on this model, or set allow_base_mismatch=True and say so where you report the result"
            )


def versions() -> dict[str, str]:
    """Of what an artefact depends on."""
    import torch
    import transformers

    from detox import __version__

    return {"detox": __version__, "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
