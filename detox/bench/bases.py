"""Base models of a grid: a checkpoint by id or path, or one that is pretrained here first.

A pretrained base is a cell of its own: its folder's name is the hash of everything that makes another model, and a finished folder
is never trained again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from detox.data import catalogue
from detox.data.corpora import CLEAN, TOXIC, clean_corpus, toxic_corpus
from detox.data.records import Document
from detox.errors import InputError, require_known
from detox.files import atomic_directory, write_json
from detox.pretraining import (
    Mixture,
    PackedSequences,
    PretrainingRecipe,
    Source,
    apply_arm,
    objective_of,
    pack,
    pretrain,
    tokenize_documents,
)
from detox.pretraining.architecture import checkpoint_folder
from detox.pretraining.conditioning import Condition
from detox.pretraining.workdir import is_whole, weights_digest

NOT_IN_FILE_NAMES = r"[^A-Za-z0-9@.+-]+"
Progress = bool | Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class RealCorpus:
    """How a base is pretrained on the real text of the catalogue.

    Attributes:
        recipe: fields of `PretrainingRecipe`.
        toxic_share: part of all tokens that is toxic text, in [0, 1).
        hold: "clean" adds the toxic tokens to the clean ones; "total" lets them displace clean ones.
        vocab_size: of the byte-level BPE tokenizer, trained on the clean text alone, so that all bases share it.
        clean, toxic: sets of the catalogue; their train splits.
        seed: of the choice and order of documents.
        held_out: characters of held-out clean and toxic text on which the learning curve is measured.
        arm: one of `detox.pretraining.ARMS`, which sets the objective and what becomes of the documents; None leaves both to the
            recipe's objective.
        tokens: how many are held; None for all of the clean text.
        passes: how often the mixture is read, which sets the recipe's steps; None leaves them to the recipe.
        condition: "meda" or "inst": documents begin with how toxic they are (`detox.pretraining.Condition`).
    """

    recipe: Mapping[str, Any]
    toxic_share: float = 0.0
    hold: str = "clean"
    vocab_size: int = 4096
    clean: tuple[str, ...] = CLEAN
    toxic: tuple[str, ...] = TOXIC
    seed: int = 0
    held_out: int = 100_000
    arm: str | None = None
    tokens: int | None = None
    passes: float | None = None
    condition: str | None = None

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> RealCorpus:
        """Read the `pretrain:` entry of a grid.

        Raises:
            UnknownName: a key that is not known here, or in the recipe.
            InputError: no recipe, or a value of the wrong type.
        """
        known = [f.name for f in fields(RealCorpus)]
        for key in values:
            require_known("pretrain key", key, known)
        if "recipe" not in values:
            raise InputError("pretrain needs a recipe: {objective: ..., steps: ..., ...}")
        if not isinstance(values["recipe"], Mapping):
            raise InputError(f"pretrain: recipe is {values['recipe']!r}; expected {{objective: ..., steps: ..., ...}}")
        for key in ("clean", "toxic"):
            names = values.get(key, ())
            if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
                raise InputError(f"pretrain: {key} is {values[key]!r}; expected a list of sets of the catalogue")
        settings: dict[str, Any] = {k: tuple(v) if k in ("clean", "toxic") else v for k, v in values.items()}
        for key, fixed in (("objective", "arm"), ("steps", "passes")):
            if key in settings["recipe"] and settings.get(fixed) is not None:
                raise InputError(f"pretrain: {fixed} decides the recipe's {key}; leave one of them out")
        corpus = RealCorpus(**settings)
        if corpus.condition is not None:
            Condition(form=corpus.condition)  # type: ignore[arg-type]
        corpus._made_recipe()
        return corpus

    def _made_recipe(self, steps: int | None = None) -> PretrainingRecipe:
        chosen: dict[str, Any] = {} if self.arm is None else {"objective": objective_of(self.arm)}
        return PretrainingRecipe.from_dict({**self.recipe, **chosen, **({} if steps is None else {"steps": steps})})

    def identity(self) -> dict[str, Any]:
        """Everything that makes another model: the settings, and the data by their files' hashes."""
        names = (*self.clean, *self.toxic) if self.toxic_share else self.clean
        hashes = {name: _file_hash(name) for name in names}
        recipe = self._made_recipe()
        # What came later is left out where it is not used, so that bases made before are known again.
        later = {key for key in ("arm", "tokens", "passes", "condition") if getattr(self, key) is None}
        settings = {
            key: value for key, value in asdict(self).items() if key not in ("recipe", "held_out") and key not in later
        }
        identity = {"kind": "real", **settings, "recipe": recipe.to_dict(), "data": hashes}
        if recipe.continue_from is not None:
            identity["continued_weights"] = weights_digest(checkpoint_folder(recipe.continue_from, recipe.revision))
        return identity

    def build(self, folder: Path, progress: Progress) -> None:
        """Pretrain into `folder`."""
        clean = clean_corpus(names=self.clean)
        tokenizer = self._tokenizer(folder.parent, clean)
        sources = [Source(name="clean", documents=clean)]
        if self.toxic_share:
            toxic = toxic_corpus(names=self.toxic)
            sources.append(Source(name="toxic", documents=toxic, share=self.toxic_share, repeat=True))
        mixture = Mixture(
            sources=tuple(sources),
            hold=self.hold,  # type: ignore[arg-type]
            tokens=self.tokens,
            seed=self.seed,
            condition=None if self.condition is None else Condition(form=self.condition),  # type: ignore[arg-type]
        )
        if self.arm is not None:
            mixture = apply_arm(self.arm, mixture)
        recipe = self._made_recipe()
        data = mixture.pack(tokenizer, sequence_length=recipe.sequence_length)
        if self.passes is not None:
            recipe = self._made_recipe(round(self.passes * len(data) / recipe.batch_size))
        held_out = {
            "clean": self._packed(clean_corpus(split="heldout", names=self.clean), tokenizer, recipe),
            "toxic": self._packed(toxic_corpus(split="heldout", names=self.toxic), tokenizer, recipe),
        }
        pretrain(recipe, data, tokenizer, folder, held_out=held_out, progress=progress)

    def _packed(self, documents: list[Document], tokenizer: Any, recipe: PretrainingRecipe) -> PackedSequences:
        # Sorted by a hash, so that the piece that is kept is a mixture of all sources.
        shuffled = sorted(documents, key=lambda document: hashlib.sha256(document.id.encode()).hexdigest())
        taken, size = [], 0
        for document in shuffled:
            if size >= self.held_out:
                break
            taken.append(document)
            size += len(document.text)
        tokens = tokenize_documents(tokenizer, taken)
        return pack(list(tokens), end_token_id=tokenizer.eos_token_id, sequence_length=recipe.sequence_length)

    def _tokenizer(self, store: Path, clean: list[Document]) -> Any:
        from transformers import AutoTokenizer

        from detox.pretraining import train_tokenizer

        names = json.dumps([self.vocab_size, *self.clean, *map(_file_hash, self.clean)])
        folder = store / f"tokenizer-{hashlib.sha256(names.encode()).hexdigest()[:12]}"
        if not (folder / "tokenizer.json").is_file():
            trained = train_tokenizer((document.text for document in clean), self.vocab_size)
            with atomic_directory(folder) as beside:
                trained.save_pretrained(beside)
        return AutoTokenizer.from_pretrained(folder)


def _file_hash(name: str) -> str:
    file = catalogue.entry(name).file
    return file.sha256 if file is not None else catalogue.describe(name)


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base model of a grid.

    Attributes:
        name: as the grid calls it.
        model: hub id or folder, or None where it is pretrained.
        revision: of a hub id.
        dtype, attention_output: as `LanguageModel.from_pretrained` takes them.
        corpus: how it is pretrained, or None; has `identity()` and `build(folder, progress)`.
        factors: what it stands for in a curve over bases: {"arm": "masked", "share": 0.25, "seed": 0}, say.
    """

    name: str
    model: str | None = None
    revision: str | None = None
    dtype: str | None = None
    attention_output: str | None = None
    corpus: Any = field(default=None)
    factors: Mapping[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """The base that must be made first: its own name, or that of the base which it instructs."""
        before = getattr(self.corpus, "base", None)
        return self.name if before is None else str(before.root)

    def made(self, store: Path) -> str | None:
        """Where the checkpoint is; None where it has to be pretrained first."""
        if self.corpus is None:
            return self.model
        folder = self._folder(store, self.corpus.identity())
        return str(folder) if (folder / "base.json").is_file() and is_whole(folder) else None

    def path(self, store: Path, *, progress: Progress = True) -> str:
        """Where the checkpoint is; pretrains it first if that has not been done."""
        if self.corpus is None:
            assert self.model is not None
            return self.model
        identity = self.corpus.identity()
        folder = self._folder(store, identity)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not ((folder / "base.json").is_file() and is_whole(folder)):
            self.corpus.build(folder, progress)
            write_json(folder / "base.json", {"name": self.name, "identity": identity})
        return str(folder)

    def _folder(self, store: Path, identity: Mapping[str, Any]) -> Path:
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        # The same base under another name is the same base.
        made = (path.parent for path in sorted(store.glob(f"bases/*-{key}/base.json")))
        return next(filter(is_whole, made), store / "bases" / f"{re.sub(NOT_IN_FILE_NAMES, '_', self.name)}-{key}")
