"""Data larger than memory: the store gives what memory gives, is used again, goes on after a stop, and fits no disk by halves."""

import json
import mmap
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detox.data.records import Document, Span, middle_kind
from detox.errors import DataError, InputError, MissingData, OutputError
from detox.pretraining import (
    Condition,
    Mixture,
    Source,
    Treatment,
    apply_arm,
    open_packed,
    token_table,
    train_tokenizer,
)

LENGTH = 16


@cache
def tokenizer():
    return train_tokenizer(["abcdefgh"], 258)


def documents(letter, count, *, seed=0):
    rng = np.random.default_rng([seed, ord(letter)])
    found = []
    for i in range(count):
        text = "".join(rng.choice([letter, letter.upper(), " "], rng.integers(0, 30)))
        cuts = sorted({int(c) for c in rng.integers(0, len(text) + 1, 4)})
        kinds = ["toxic", "name", middle_kind("toxic")]
        spans = [Span(a, b, kinds[int(rng.integers(3))]) for a, b in zip(cuts[:-1:2], cuts[1::2], strict=False)]
        found.append(Document(id=f"{letter}{i}", text=text, spans=tuple(spans) if letter != "p" else ()))
    return found


def mixture(**options):
    sources = (
        Source(name="prose", documents=documents("p", 60)),
        Source(name="talk", documents=documents("q", 20), repeat=True),
        Source(name="toxic", documents=documents("t", 30), share=0.25, repeat=True),
    )
    return Mixture(sources=sources, **options)


def same(first, second):
    assert np.array_equal(first.tokens, second.tokens)
    assert np.array_equal(first.risk, second.risk)
    assert (first.ignored is None) == (second.ignored is None)
    assert first.ignored is None or np.array_equal(first.ignored, second.ignored)
    assert first.card() == second.card()


def is_mapped(array):
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    return array is not None


@pytest.mark.slow
@given(
    level=st.sampled_from(["document", "sequence"]),
    hold=st.sampled_from(["clean", "total"]),
    tokens=st.sampled_from([None, 500]),
    arm=st.sampled_from(["full", "filtered", "clean"]),
    middle=st.sampled_from(["train", "mask", "drop"]),
    risky=st.sampled_from([None, ("toxic",), ("name",)]),
    condition=st.sampled_from([None, Condition(form="meda", share=0.5), Condition(form="inst", prefix_loss="mask")]),
    seed=st.integers(0, 3),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_store_changes_nothing(
    tmp_path_factory, monkeypatch, level, hold, tokens, arm, middle, risky, condition, seed
):
    monkeypatch.setattr(token_table, "_SHARD_TOKENS", 100)
    treatment = Treatment(risky=risky, middle=middle)
    asked = mixture(level=level, hold=hold, tokens=tokens, seed=seed, treatment=treatment, condition=condition)
    asked = apply_arm(arm, asked)
    store = tmp_path_factory.mktemp("store")
    packed = asked.pack(tokenizer(), sequence_length=LENGTH)
    stored = asked.pack(tokenizer(), sequence_length=LENGTH, store=store)
    same(packed, stored)
    same(packed, asked.pack(tokenizer(), sequence_length=LENGTH, store=store))  # read again
    assert is_mapped(stored.tokens)
    assert is_mapped(stored.risk)
    assert not is_mapped(packed.tokens)
    json.dumps(packed.card(), allow_nan=False)
    # What is counted is what is there.
    for name, counted in (("tokens", packed.tokens.size), ("risky_tokens", packed.risk.sum())):
        assert sum(getattr(source, name) for source in packed.sources) == counted
    ignored = 0 if packed.ignored is None else packed.ignored.sum()
    assert sum(source.ignored_tokens for source in packed.sources) == ignored
    assert packed.ignored is None or not (packed.ignored & packed.risk).any()


def counting(monkeypatch):
    """How many documents are tokenised from now on."""
    import detox.pretraining.reading as reading

    seen = []
    labelled = reading.labelled
    monkeypatch.setattr(
        reading, "labelled", lambda document, *rest: seen.append(document.id) or labelled(document, *rest)
    )
    return seen


def test_a_store_is_read_again_where_nothing_changed_and_only_there(tmp_path, monkeypatch):
    seen = counting(monkeypatch)

    def packed(asked, length=LENGTH):
        seen.clear()
        asked.pack(tokenizer(), sequence_length=length, store=tmp_path)
        return {document[0] for document in seen}

    assert packed(mixture()) == {"p", "q", "t"}
    assert (
        packed(mixture())
        == packed(mixture(seed=1))
        == packed(mixture(level="sequence"))
        == packed(mixture(), 8)
        == set()
    )
    # Text of the clean source is not deleted; its table has another treatment all the same.
    assert packed(apply_arm("filtered", mixture())) == {"p", "q", "t"}
    first, *others = mixture().sources
    changed = [*first.documents[:-1], replace(first.documents[-1], text="p")]
    assert packed(replace(mixture(), sources=(replace(first, documents=changed), *others))) == {"p"}
    assert packed(mixture(condition=Condition(form="meda"))) == {"p", "q", "t"}
    assert packed(mixture(condition=Condition(form="meda", share=0.5))) == {"p", "q", "t"}


def test_a_stopped_run_goes_on_behind_its_last_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(token_table, "_SHARD_TOKENS", 100)
    monkeypatch.setattr("detox.pretraining.risk._BATCH", 5)

    class Stopped:
        """Documents, until there is a Ctrl-C; by `digest` the same ones."""

        digest = "the talk"

        def __init__(self, stop):
            self.documents, self.stop = documents("q", 60), stop

        def __iter__(self):
            for index, document in enumerate(self.documents):
                if index == self.stop:
                    raise KeyboardInterrupt
                yield document

    def packed(stop, store):
        sources = (Source(name="talk", documents=Stopped(stop)),)
        return Mixture(sources=sources).pack(tokenizer(), sequence_length=LENGTH, store=store)

    seen = counting(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        packed(40, tmp_path / "a")
    assert len(seen) >= 35
    assert not list((tmp_path / "a").rglob(".shard*"))  # nothing half-written
    finished = sum(token_table.Shard.open(f).documents_read for f in (tmp_path / "a").rglob("shard-*"))
    assert finished >= 20
    seen.clear()
    resumed = packed(None, tmp_path / "a")
    assert len(seen) == 60 - finished
    same(resumed, packed(None, tmp_path / "b"))
    names = sorted(p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*.npy"))
    assert names == sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.npy"))
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


class Generated:
    """Documents that are made as they are read."""

    digest = "generated"

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        for index in range(self.count):
            text = f"{index} " + "some words of text, " * 100
            yield Document(id=str(index), text=text, spans=(Span(0, 30),) if index % 50 == 0 else ())


def peak(count, store):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"<eos>": 0, "<unk>": 1, "some": 2, "words": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", unk_token="<unk>")
    asked = Mixture(sources=(Source(name="made", documents=Generated(count)),))
    tracemalloc.start()
    packed = asked.pack(words, sequence_length=128, store=store)
    assert packed.card()["risky_tokens"] > 0
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return used / 2**20, packed.tokens.nbytes / 2**20


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr("detox.pretraining.mixing._BLOCK_TOKENS", 2**16)
    monkeypatch.setattr("detox.pretraining.risk._BATCH", 100)
    few, _ = peak(500, tmp_path / "few")
    many, size = peak(4_000, tmp_path / "many")  # 8 MB of text
    assert size > 6
    assert many < few + 1
    without, _ = peak(4_000, None)
    assert without > many + size  # the measure sees what there is to see


_LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, ".")
from tests.pretraining.test_store import mixture, tokenizer
tokens = tokenizer()
import detox.pretraining.mixing, detox.pretraining.token_table
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    mixture().pack(tokens, sequence_length=16, store=sys.argv[1])
except OSError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [2500, 6000])  # the first file of tokens; the packed sequences
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path, limit):
    from tests.conftest import REPOSITORY

    store = tmp_path / "store"
    command = [sys.executable, "-c", _LIMITED, str(store), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.startswith("OutputError cannot write tokens.npy"), done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "give another store" in done.stdout
    assert not list((store / "packed").glob("*") if (store / "packed").exists() else [])
    for shard in store.rglob("shard-*"):
        token_table.Shard.open(shard)
    same(mixture().pack(tokenizer(), sequence_length=16, store=store), mixture().pack(tokenizer(), sequence_length=16))


def test_too_little_space_is_found_before_writing(tmp_path, monkeypatch):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**30, 2**30, 1000))
    with pytest.raises(OutputError, match="MiB are to be written"):
        mixture().pack(tokenizer(), sequence_length=LENGTH, store=tmp_path)
    assert not list(tmp_path.rglob("packed.json"))


def test_what_is_wrong_with_a_store_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        mixture().pack(tokenizer(), sequence_length=LENGTH, store=tmp_path / "file")
    with pytest.raises(MissingData, match=r"no packed\.json"):
        open_packed(tmp_path)
    store = tmp_path / "store"
    packed = mixture().pack(tokenizer(), sequence_length=LENGTH, store=store)
    (folder,) = (store / "packed").iterdir()
    same(open_packed(folder), packed)
    (folder / "risk.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match="is damaged"):
        open_packed(folder)
    shard = next(store.rglob("shard-00000"))
    (shard / "labels.npy").unlink()
    with pytest.raises(DataError, match="shard-00000 is damaged"):
        mixture(seed=9).pack(tokenizer(), sequence_length=LENGTH, store=store)


def test_documents_that_can_be_read_only_once_are_refused(tmp_path):
    once = (Document(id=str(i), text="p") for i in range(3))
    with pytest.raises(InputError, match="generator, which can be read only once"):
        Mixture(sources=(Source(name="s", documents=once),)).pack(tokenizer(), sequence_length=2)
    with pytest.raises(InputError, match="entry 0 is str"):
        Mixture(sources=(Source(name="s", documents=["p"]),)).pack(tokenizer(), sequence_length=2, store=tmp_path)
    with pytest.raises(InputError, match="expected a list of documents"):
        Mixture(sources=(Source(name="s", documents=3),)).pack(tokenizer(), sequence_length=2)


@pytest.mark.parametrize("stored", [False, True])
def test_wrong_tokenizers_and_texts_are_one_line(tmp_path, stored):
    class Slow:
        is_fast = False
        eos_token_id = 0

    def packed(tokens, text):
        documents = [Document(id="good", text="p" * 20), Document(id="bad", text=text)]
        store = tmp_path if stored else None
        return Mixture(sources=(Source(name="s", documents=documents),)).pack(tokens, sequence_length=2, store=store)

    with pytest.raises(InputError, match="Slow gives no character offsets"):
        packed(Slow(), "p")
    with pytest.raises(DataError, match="document 'bad': character 1 is a lone surrogate"):
        packed(tokenizer(), "a\ud800")
    assert tokenizer().decode(packed(tokenizer(), "a\0b").tokens.reshape(-1).tolist()).count("a\0b") == 1


def test_a_source_is_read_no_further_than_its_limit(monkeypatch, tmp_path):
    seen = counting(monkeypatch)
    monkeypatch.setattr("detox.pretraining.risk._BATCH", 5)
    monkeypatch.setattr(token_table, "_SHARD_TOKENS", 60)
    asked = Mixture(sources=(Source(name="s", documents=documents("q", 200), limit_tokens=300),))
    packed = asked.pack(tokenizer(), sequence_length=LENGTH)
    assert 300 <= packed.sources[0].available_tokens + packed.sources[0].empty_documents <= 331
    assert len(seen) <= 40
    same(packed, asked.pack(tokenizer(), sequence_length=LENGTH, store=tmp_path))
