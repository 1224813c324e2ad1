"""A grid small enough to run in seconds: a real tiny model on disk, data in JSON Lines, a scorer in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from detox.data import write_contrasts, write_jsonl

SCORER = """
from detox.scorers import Score, ScorerCard

class Rudeness:
    card = ScorerCard("rudeness", "1", ("nothing",), None, "read whole")

    def score(self, texts):
        return [Score(sum(w.startswith("rude") for w in t.split()) / len(t.split())) for t in texts]
"""

METHODS = """
from contextlib import contextmanager
from dataclasses import dataclass
from detox.detoxifiers import ITI, Detoxifier, Prompting
from detox.detoxifiers.contract import Capabilities

@dataclass(kw_only=True)
class Failing(Prompting):
    @contextmanager
    def applied(self, lm, *, strength=None):
        raise RuntimeError("this method always fails")
        yield

@dataclass(kw_only=True)
class Damaging(Prompting):
    @contextmanager
    def applied(self, lm, *, strength=None):
        with super().applied(lm, strength=strength) as handle:
            next(lm.model.parameters()).data.mul_(1.5)
            yield handle

@dataclass(kw_only=True)
class DamagingLater(Prompting):
    calls = 0

    @contextmanager
    def applied(self, lm, *, strength=None):
        type(self).calls += 1
        with super().applied(lm, strength=strength) as handle:
            yield handle
        if type(self).calls > 2:  # after the audit
            next(lm.model.parameters()).data.mul_(1.5)

@dataclass(kw_only=True)
class Offset(Prompting):
    @contextmanager
    def applied(self, lm, *, strength=None):
        with super().applied(lm, strength=1) as handle:
            yield handle

@dataclass(kw_only=True)
class Lopsided(Prompting):
    # A hook on the first position, which is padding in a batch.

    @contextmanager
    def applied(self, lm, *, strength=None):
        def shift(module, inputs, output):
            output = output.clone()
            output[:, 0] += strength
            return output

        hook = lm.model.get_input_embeddings().register_forward_hook(shift if strength else lambda *three: None)
        try:
            with super().applied(lm, strength=0) as handle:
                yield handle
        finally:
            hook.remove()

@dataclass(kw_only=True)
class Keeping(Prompting):
    @contextmanager
    def applied(self, lm, *, strength=None):
        with super().applied(lm, strength=strength) as handle:
            yield handle
        next(lm.model.parameters()).data.view(-1)[5] += 0.5

@dataclass(kw_only=True)
class Breaking(Prompting):
    @contextmanager
    def applied(self, lm, *, strength=None):
        next(lm.model.parameters()).data.add_(0.5)
        raise RuntimeError("broken half-way")
        yield

@dataclass(kw_only=True)
class Learning(ITI):
    def fit(self, lm, contrasts, **options):
        super().fit(lm, contrasts, **options)
        next(lm.model.parameters()).data.add_(0.5)
        return self
"""


@pytest.fixture(scope="session")
def grid_files(tmp_path_factory, planted) -> Path:
    """A folder with everything that the grid names."""
    folder = tmp_path_factory.mktemp("grid")
    planted.lm.model.save_pretrained(folder / "model")
    planted.lm.tokenizer.save_pretrained(folder / "model")
    write_contrasts(folder / "fit.jsonl", planted.contrasts)
    write_contrasts(folder / "margins.jsonl", planted.heldout)
    write_jsonl(folder / "prompts.jsonl", [{"id": str(i), "text": c.prompt} for i, c in enumerate(planted.heldout)])
    write_jsonl(
        folder / "documents.jsonl",
        [{"id": str(i), "text": c.prompt + c.safe[0]} for i, c in enumerate(planted.heldout)],
    )
    (folder / "rudeness.py").write_text(SCORER)
    (folder / "methods.py").write_text(METHODS)
    return folder


@pytest.fixture
def grid(grid_files):
    """The grid as a dictionary, and a function that writes it."""
    raw = {
        "name": "tiny",
        "bases": {"planted": {"model": str(grid_files / "model")}},
        "fit": {"contrasts": {"file": str(grid_files / "fit.jsonl")}},
        "aa": False,  # cells are counted; test_noise_floor.py has grids with it
        "detoxifiers": {
            "prompting": {"settings": {"text": "topic1 says kind1 kind2 "}},
            "iti": {"settings": {"num_heads": 4}, "strengths": [0.3, 3], "controls": False},
        },
        "protocols": {
            "main": {
                "prompts": {"file": str(grid_files / "prompts.jsonl")},
                "sampling": {"max_new_tokens": 6, "num_return_sequences": 3},
                "scorers": [f"{grid_files / 'rudeness.py'}:Rudeness"],
                "documents": {"file": str(grid_files / "documents.jsonl")},
                "contrasts": {"file": str(grid_files / "margins.jsonl")},
            }
        },
    }

    def write(path: Path, **changes) -> Path:
        path.write_text(yaml.safe_dump({**raw, **changes}))
        return path

    return raw, write
