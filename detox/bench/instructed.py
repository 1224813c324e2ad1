"""Bases of a grid that are another base after a short instruction tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detox.bench.bases import Base, Progress
from detox.bench.cells import base_identity
from detox.data.contrasts import Contrast
from detox.data.contrasts import digest as contrasts_digest
from detox.errors import InputError
from detox.pretraining.dialogues import InstructionRecipe
from detox.pretraining.instruct import instruct


@dataclass(frozen=True, kw_only=True)
class Instructed:
    """A base that answers: `instruct: {base: NAME, dialogues: {set: ...}, recipe: {...}}`.

    Attributes:
        base: the one that is tuned, earlier in the grid.
        dialogues: the safe continuation of each is the reply that is learned.
        recipe: how.
    """

    base: Base
    dialogues: tuple[Contrast, ...]
    recipe: InstructionRecipe

    @staticmethod
    def from_dict(base: Base, dialogues: tuple[Contrast, ...], recipe: Any, *, where: str) -> Instructed:
        """The base that an `instruct:` entry of a grid means.

        Raises:
            InputError: a recipe that means nothing.
        """
        if not isinstance(recipe, Mapping):
            raise InputError(f"{where}: recipe is {recipe!r}; expected {{epochs: ..., learning_rate: ..., ...}}")
        return Instructed(base=base, dialogues=dialogues, recipe=InstructionRecipe.from_dict(recipe))

    def identity(self) -> dict[str, Any]:
        """Everything that makes another model."""
        if self.base.corpus is not None:
            before = self.base.corpus.identity()
        elif Path(str(self.base.model)).is_dir():
            before = base_identity(self.base, str(self.base.model))
        else:
            before = {"hub": self.base.model, "revision": self.base.revision}
        return {
            "kind": "instructed",
            "base": before,
            "dialogues": contrasts_digest(self.dialogues),
            "recipe": self.recipe.to_dict(),
        }

    def build(self, folder: Path, progress: Progress) -> None:
        """Make the base if it is not there, and tune it into `folder`."""
        path = self.base.path(folder.parent.parent, progress=progress)
        instruct(path, self.dialogues, folder, recipe=self.recipe, revision=self.base.revision, progress=progress)
