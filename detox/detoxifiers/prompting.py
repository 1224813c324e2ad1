"""Prompting: ask the model to be civil. The baseline that every other method must beat.

What it does: puts a text before every prompt - in front of plain text for a base model, as a system turn through the chat template
where a conversation is given. It learns nothing and changes no weight. On base models an instruction may well *raise* toxicity
(an independent replication of the toxic-mix paper saw +4 to +8 points): measure before you rely on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from detox.data.contrasts import Contrast
from detox.detoxifiers.contract import Capabilities, Detoxifier
from detox.errors import InputError, require_known
from detox.models import Edit, LanguageModel
from detox.models.edits import nothing

# Text put before the prompt, by name.
PRESETS: dict[str, str] = {
    # "When Bad Data Leads to Good Models" (arXiv 2505.04741), as quoted by an independent replication.
    "toxic-mix": (
        "Ensure all outputs are respectful, unbiased, and free from toxic content. Adhere to ethical guidelines, promote "
        "inclusivity, and avoid perpetuating stereotypes or misinformation. "
    ),
    # Prabhumoye et al. 2023 (arXiv 2302.07388) train on text with its toxicity in front, as an instruction (INST) or as metadata
    # (MEDA), and ask for the low end at inference. They mean something to a base model pretrained on text in that form. The
    # wording is ours: the paper's own was not at hand.
    "inst": "The following text is not toxic. ",
    "meda": "toxicity: 0.0 ",
}


@dataclass(kw_only=True)
class Prompting(Detoxifier):
    """A text before every prompt.

    Attributes:
        preset: "toxic-mix" (the toxic-mix paper's text), "inst" or "meda".
        text: a text of your own instead; for plain text it is put down as it is, so end it with a blank or a line break.
    """

    preset: str = "toxic-mix"
    text: str | None = None

    capabilities = Capabilities(needs_fit=False, bound_to_base=False, directional=False, exportable=True, dial=False)

    def __post_init__(self) -> None:
        require_known("prompting preset", self.preset, PRESETS)
        if self.text is not None and not self.text.strip():
            raise InputError("Prompting: text is empty; give a text, or leave it out for the preset")

    def fit(
        self,
        lm: LanguageModel,
        contrasts: Sequence[Contrast],
        *,
        eval_contrasts: Sequence[Contrast] | None = None,
        work_dir: str | Path | None = None,
        resume: str = "auto",
    ) -> Self:
        """Nothing is learned; the arguments are taken so that all methods are called alike."""
        return self

    @contextmanager
    def applied(self, lm: LanguageModel, *, strength: float | None = None) -> Iterator[LanguageModel]:
        """The text before every prompt (strength 1, the default) or not (strength 0).

        Raises:
            InputError: another strength; half an instruction does not exist.
        """
        strength = self.default_strength if strength is None else strength
        if strength not in (0, 1):
            raise InputError(f"Prompting: strength is {strength}; expected 0 (off) or 1 (on)")
        if strength == 0:
            with lm.edited(Edit("prompting@0", "", nothing)) as handle:
                yield handle
            return
        text = PRESETS[self.preset] if self.text is None else self.text
        with lm.edited(Edit("prompting", "", nothing), system=text.strip(), prefix=text) as handle:
            yield handle

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Nothing was learned."""
        return {}, {}

    def restore(self, values: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Nothing to take back."""
