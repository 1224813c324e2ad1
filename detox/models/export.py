"""A change baked into a plain checkpoint, reloaded, compared and certified.

Changes of weights are merged, constant shifts of linear modules' inputs are folded into biases, a system text is written into the chat
template. What is written is loaded again by plain AutoModelForCausalLM before it gets its place: a tensor that this would drop or
make up, a bias that is not there, or logits that differ beyond rounding, and nothing is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detox.errors import NotExportable
from detox.files import atomic_directory, write_json, write_text
from detox.models.chat_templates import with_system
from detox.models.comparing import Comparison, compare, file_hashes, prompt_rows, reload_strictly, silent_sites
from detox.models.edits import Edit, state_of
from detox.models.folding import ALTERNATIVES, bias_slots, open_slots
from detox.models.language_model import LanguageModel
from detox.models.rehoming import as_llama
from detox.models.runtimes import bias_warnings, row
from detox.models.twins import twin

CERTIFICATE = "certificate.json"
FORMAT = 1
_SAME_TEXTS = ("The quick brown fox.", "  two  blanks\n\ttab", "naïve 東京 🙂 1234", "<|im_start|>")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """What the edits of a handle come to.

    Attributes:
        merged: names of the edits that are changes of weights.
        folded: names of those that are constant shifts.
        shifts: module name -> (in_features,) float64, the sum of all of them.
        approximate: what is not exact about acting at every position, one sentence an edit.
    """

    merged: tuple[str, ...]
    folded: tuple[str, ...]
    shifts: dict[str, Tensor]
    approximate: tuple[str, ...]


def change_of(lm: LanguageModel, *, approximate: bool = False) -> Change:
    """Read the stack of edits of a handle.

    Raises:
        NotExportable: an edit that no checkpoint holds, or that one holds approximately and `approximate` is False.
    """
    state = state_of(lm.model)
    of_weights = [edit for edit, _ in state.views]
    merged, folded, unexact = [], [], []
    shifts: dict[str, Tensor] = {}
    for edit in state.edits:
        if edit in of_weights:
            merged.append(edit.name)
        elif edit.input_shifts:
            folded.append(edit.name)
            for site, shift in edit.input_shifts.items():
                shifts[site] = shifts.get(site, 0) + shift.detach().cpu().double()
            unexact += _unexact(edit, approximate=approximate)
        elif edit.digest:
            raise NotExportable(
                f"{edit.name} is no change of weights and no constant shift, so no checkpoint holds it; export without it, or keep "
                "the handle"
            )
    if lm.logits_edits:
        raise NotExportable("the handle changes logits while decoding, which no checkpoint holds; export without it")
    return Change(tuple(merged), tuple(folded), shifts, tuple(unexact))


def _unexact(edit: Edit, *, approximate: bool) -> list[str]:
    found = []
    if edit.positions != "all":
        found.append(f"{edit.name} acts at positions={edit.positions!r}, and a bias acts at every position")
    if edit.gate is not None:
        found.append(f"{edit.name} acts on the prompts that its gate lets through, and a bias acts on all of them")
    if found and not approximate:
        raise NotExportable(
            f"{found[0]}; fit without that and measure it, ask for approximate=True (--approximate), or keep the handle"
        )
    return found


def export_checkpoint(
    lm: LanguageModel,
    directory: str | Path,
    *,
    card: Callable[[Mapping[str, Any]], str],
    approximate: bool = False,
    prompts: Sequence[str] | None = None,
    record: Mapping[str, Any] | None = None,
    beside: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Write what a handle computes as a plain transformers checkpoint.

    Args:
        lm: a handle inside `applied`; its model is left as it is.
        directory: appears whole, or not at all; one that an earlier export wrote is replaced.
        card: README.md, from the certificate.
        approximate: fold a shift that acts at some positions only into a bias, which acts at all; the certificate says so.
        prompts: texts on which the two are compared; None takes seeded rows of random tokens.
        record: what else the certificate holds (where the base and the detoxifier are, say).
        beside: writes more files into the folder.

    Returns:
        The certificate, which is also in the folder as certificate.json.

    Raises:
        NotExportable: with the reason and the alternatives.
        OutputError: the place cannot be written, or holds something else.
    """
    lm.require_current()
    if getattr(lm.model, "is_quantized", False):
        raise NotExportable("the model's weights are quantized; load it without quantization and export from that")
    if any(parameter.is_meta for parameter in lm.model.parameters()):
        raise NotExportable(
            "some weights are offloaded; load the whole model (device='cpu' will do) and export from that"
        )
    change = change_of(lm, approximate=approximate)
    tokenizer = with_system(lm)
    rows = prompt_rows(lm, prompts)
    with atomic_directory(directory, marker=CERTIFICATE) as folder:
        family, flag = _write(lm, change, folder)
        tokenizer.save_pretrained(folder)
        again = reload_strictly(folder, dtype=next(lm.model.parameters()).dtype, device=lm.model.device)
        _require_same_tokenizer(tokenizer, again.tokenizer)
        silent = [site for site in silent_sites(again.model, list(change.shifts)) if bool(change.shifts[site].any())]
        if silent:
            raise NotExportable(f"reloaded, {silent[0]} has no bias, or one of zeros; nothing was kept. {ALTERNATIVES}")
        found = compared(lm, again, change, rows)
        certificate = {
            "format": FORMAT,
            **found,
            "prompts_from": "random token rows, seed 0" if prompts is None else "texts given",
            "prompt_ids": [" ".join(map(str, ids)) for ids in rows],
            "dtype": str(next(lm.model.parameters()).dtype).removeprefix("torch."),
            "family_from": lm.model.config.model_type,
            "family_to": family,
            "opened_by": flag,
            "merged": list(change.merged),
            "folded": list(change.folded),
            "biases": sorted(f"{site}.bias" for site, shift in change.shifts.items() if bool(shift.any())),
            "system_text": lm.system,
            "runtimes": row(family),
            "warnings": [*_drowned(found), *(bias_warnings(family) if change.shifts else [])],
            **(record or {}),
        }
        write_text(folder / "README.md", card(certificate))
        if beside is not None:
            beside(folder)
        certificate["files"] = file_hashes(folder, without=CERTIFICATE)
        write_json(folder / CERTIFICATE, certificate)
        for path in (one for one in folder.rglob("*") if one.is_file()):
            path.chmod(0o644)  # safetensors leaves its file to the owner alone
    for warning in certificate["warnings"]:
        logger.warning("%s: %s", directory, warning)
    return {**certificate, "directory": str(directory)}


def _write(lm: LanguageModel, change: Change, folder: Path) -> tuple[str, str | None]:
    """Write the weights; returns the family of what was written, and the configuration entry that opened the biases."""
    merged = twin(lm.model)
    shifts = {site: shift for site, shift in change.shifts.items() if bool(shift.any())}
    flag = None
    if shifts:
        slots = bias_slots(merged, list(shifts))
        if slots is None:
            merged, flag = as_llama(merged, shifts), "attention_bias"
        else:
            open_slots(merged, slots, shifts)
            flag = slots.flag
    merged.save_pretrained(folder)
    return str(merged.config.model_type), flag


def compared(lm: LanguageModel, again: LanguageModel, change: Change, rows: list[list[int]]) -> dict[str, Any]:
    """The part of the certificate that says how far the checkpoint is from the handle.

    Args:
        lm: the handle, inside `applied`.
        again: the checkpoint, reloaded.
        change: what the handle's edits come to.
        rows: token ids of the prompts.

    Raises:
        NotExportable: further than rounding explains.
    """
    handle = compare(lm, again, rows)
    proof = handle
    if change.approximate:
        # What the bias claims to be, the same shift at every position, can still be proven.
        with _everywhere(lm, change.shifts) as reference:
            proof = compare(reference, again, rows)
    if not proof.within:
        raise NotExportable(
            f"logits of the reloaded checkpoint differ by up to {proof.max_logit_difference:.3g} from those of the model in memory, "
            f"more than rounding explains ({proof.bound:.3g})"
        )
    found: dict[str, Any] = {
        "semantics": "approximate" if change.approximate else "exact",
        "approximate_because": list(change.approximate),
        **_numbers(handle),
    }
    if change.approximate:
        found["against_the_shift_at_every_position"] = _numbers(proof)
    return found


def _drowned(found: Mapping[str, Any]) -> list[str]:
    if found["approximate_because"] or found["mean_logit_difference"] <= found["effect"] / 2:
        return []
    return [
        f"the edit moves logits by {found['effect']:.3g} on average and rounding by {found['mean_logit_difference']:.3g}: in this "
        "precision little of it is left; export in a finer one"
    ]


def _numbers(one: Comparison) -> dict[str, Any]:
    return {"bit_equal": one.max_logit_difference == 0, **vars(one)}


@contextmanager
def _everywhere(lm: LanguageModel, shifts: Mapping[str, Tensor]) -> Iterator[LanguageModel]:
    """The handle's model with its changes of weights, and with the shifts added at every position, by hooks of our own."""
    model = twin(lm.model)
    for module in model.modules():
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()
    with ExitStack() as stack:
        for site, shift in shifts.items():
            stack.callback(model.get_submodule(site).register_forward_pre_hook(_adder(shift)).remove)
        yield LanguageModel(model, lm.tokenizer)


def _adder(shift: Tensor) -> Callable[..., tuple[Any, ...]]:
    def add(module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0] + shift.to(args[0].device, args[0].dtype), *args[1:])

    return add


def _require_same_tokenizer(written: Any, read: Any) -> None:
    # A class under another name may come with another tokenizer than the one that was saved beside it.
    for text in _SAME_TEXTS:
        if written(text)["input_ids"] != read(text)["input_ids"]:
            raise NotExportable(
                f"the reloaded tokenizer, {type(read).__name__}, splits {text!r} otherwise than {type(written).__name__}; keep the handle"
            )
    if written.chat_template != read.chat_template:
        raise NotExportable("the reloaded tokenizer has another chat template than the one written; keep the handle")
