"""What a base is known by, and what of it must be there."""

from __future__ import annotations

import json
import shutil

import pytest

from detox.bench.bases import Base, RealCorpus
from detox.bench.cells import base_identity
from detox.bench.miniature import MiniatureCorpus
from detox.data.records import Document
from detox.errors import InputError
from detox.pretraining.workdir import is_whole


def test_a_checkpoint_that_is_continued_counts_by_its_weights(grid_files, tmp_path):
    recipe = {"steps": 3}
    scratch = RealCorpus(recipe=recipe).identity()
    assert scratch.keys() == {"kind", "toxic_share", "hold", "vocab_size", "clean", "toxic", "seed", "recipe", "data"}
    shutil.copytree(grid_files / "model", tmp_path / "model")
    continued = RealCorpus(recipe={**recipe, "continue_from": str(tmp_path / "model")})
    before = continued.identity()
    with (tmp_path / "model" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert continued.identity() != before
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no"):
        continued.identity()


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("generation_config.json", True),
        ("chat_template.jinja", True),
        ("special_tokens_map.json", True),
        ("added_tokens.json", True),
        ("vocab.txt", True),
        ("spiece.model", True),
        ("README.md", False),
        ("pretraining.json", False),
        ("base.json", False),
    ],
)
def test_files_that_change_what_a_base_writes_are_its_identity(name, counts, grid_files, tmp_path):
    shutil.copytree(grid_files / "model", tmp_path / "model")
    base = Base(name="b", model=str(tmp_path / "model"))
    before = base_identity(base, base.model)
    (tmp_path / "model" / name).write_text("other")
    assert (base_identity(base, base.model) != before) == counts


@pytest.mark.slow
def test_a_base_of_which_only_the_record_is_there_is_made_again(tmp_path, capsys):
    base = Base(name="clean", corpus=MiniatureCorpus(arm="clean", size="test"))
    path = base.path(tmp_path, progress=False)
    identity = base_identity(base, path)
    card = tmp_path / "bases" / path.rsplit("/", 1)[-1] / "pretraining.json"
    for ignored in [*card.parent.glob("*.safetensors"), *card.parent.glob("tokenizer*")]:
        ignored.unlink()
    written = card.stat().st_mtime_ns
    assert base.path(tmp_path, progress=False) == path
    assert base_identity(base, path) == identity
    assert card.stat().st_mtime_ns > written
    assert json.loads((card.parent / "base.json").read_text())["name"] == "clean"


def test_every_shard_that_the_index_names_must_be_there(tmp_path):
    shards = ["model-1-of-2.safetensors", "model-2-of-2.safetensors"]
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict(zip("ab", shards, strict=True))})
    )
    for name in ("tokenizer.json", *shards):
        assert not is_whole(tmp_path)
        (tmp_path / name).write_text("")
    assert is_whole(tmp_path)


def test_a_kill_leaves_no_half_tokenizer(tmp_path, monkeypatch):
    from transformers import PreTrainedTokenizerFast

    corpus = RealCorpus(recipe={}, clean=(), vocab_size=300)
    documents = [Document(id="1", text="some words of a text, and some more words of it")]

    def killed(self, folder, **options):
        (folder / "tokenizer.json").write_text("{")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(PreTrainedTokenizerFast, "save_pretrained", killed)
        with pytest.raises(KeyboardInterrupt):
            corpus._tokenizer(tmp_path, documents)
    assert not list(tmp_path.iterdir())
    assert corpus._tokenizer(tmp_path, documents)("words")["input_ids"]
