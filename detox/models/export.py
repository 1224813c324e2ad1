"""A change baked into a plain checkpoint, reloaded and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from detox.errors import NotExportable
from detox.files import atomic_directory, write_json, write_text
from detox.models.edits import state_of
from detox.models.language_model import LanguageModel
from detox.models.running import evaluating
from detox.models.twins import twin

CERTIFICATE = "certificate.json"
_TEXTS, _TOKENS = 8, 24
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
_ROUNDED = 0.5  # logits of a model in half precision


def export_merged(lm: LanguageModel, directory: str | Path, *, card: str) -> dict[str, Any]:
    """Write the handle's model, its adapters merged into the weights, as a plain transformers checkpoint.

    Args:
        lm: a handle inside `applied`; its edits must be changes of weights.
        directory: appears whole, or not at all; one that an earlier export wrote is replaced.
        card: README.md.

    Returns:
        The certificate, which is also in the folder: how far the logits of the reloaded checkpoint are from the handle's, over
        random tokens.

    Raises:
        NotExportable: an edit that is no change of weights, text before the prompt, or logits that differ.
        OutputError: the place cannot be written, or holds something else.
    """
    lm.require_current()
    state = state_of(lm.model)
    of_weights = [edit for edit, _ in state.views]
    other = next((edit.name for edit in state.edits if edit.digest and edit not in of_weights), None)
    if other is not None:
        raise NotExportable(
            f"{other} is no change of weights and cannot be merged; export without it, or keep the handle"
        )
    if lm.prefix or lm.system or lm.logits_edits:
        raise NotExportable(
            "the handle has text before the prompt, or changes logits, which no checkpoint holds; export without"
        )
    with atomic_directory(directory, marker=CERTIFICATE) as folder:
        merged = twin(lm.model)
        merged.save_pretrained(folder)
        del merged
        lm.tokenizer.save_pretrained(folder)
        found = _compare(lm, folder)
        found["directory"] = str(directory)
        write_json(folder / CERTIFICATE, {key: value for key, value in found.items() if key != "directory"})
        write_text(folder / "README.md", card)
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors leaves its file to the owner alone
    return found


def _compare(lm: LanguageModel, folder: Path) -> dict[str, Any]:
    dtype = next(lm.model.parameters()).dtype
    again = LanguageModel.from_pretrained(folder, dtype=str(dtype).removeprefix("torch."), device=lm.model.device)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, lm.model.config.get_text_config().vocab_size, (_TEXTS, _TOKENS), generator=generator)
    ids = tokens.to(lm.model.device)
    with torch.no_grad(), evaluating(lm.model), evaluating(again.model):
        here, there = (one.model(input_ids=ids).logits.float() for one in (lm, again))
    apart = (here - there).abs()
    if float(apart.max()) > _TOLERANCE.get(dtype, _ROUNDED):
        raise NotExportable(
            f"logits of the reloaded checkpoint differ by up to {float(apart.max()):.3g} from those of the model in memory; nothing "
            "was kept"
        )
    return {
        "exact": bool((apart == 0).all()),
        "max_logit_difference": float(apart.max()),
        "mean_logit_difference": float(apart.mean()),
        "prompts": _TEXTS,
    }
