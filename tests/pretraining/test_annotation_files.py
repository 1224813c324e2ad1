"""Annotation from files to files: the same as in memory, whatever the format, the workers, the kills."""

from __future__ import annotations

import errno
import gzip
import json
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detox.data.records import Document, Span
from detox.errors import DataError, DetoxError, InputError, MissingData, OutputError, UnknownName
from detox.pretraining import (
    AnnotationSettings,
    Columns,
    SentenceAnnotator,
    annotate,
    annotate_files,
    merge_spans,
    read_annotated,
)
from detox.pretraining.annotation.shards import write_shard
from detox.scorers import load_scorer
from tests.conftest import hear_ctrl_c

SCORER = '''
import time
from detox.scorers import Score, ScorerCard

class Marks:
    """9: risky, 5: middle, ?: missing."""

    def __init__(self, pause=0.0):
        self.pause = pause
        self.card = ScorerCard(name="marks", revision="1", trained_on=(), max_length=None, beyond="all is read")

    def score(self, texts):
        time.sleep(self.pause * len(texts))
        return [Score.missing("a question") if "?" in t else Score(.995 if "9" in t else .5 if "5" in t else 0.) for t in texts]
'''
PIECES = ["Fine here. ", "Bad 9 one! ", "So 5 so. ", "Who? ", "Ünï 😀 9。 ", "\n\n", "日本語です。 ", "שלום 5. "]


@pytest.fixture
def scorer(tmp_path):
    (tmp_path / "marks.py").write_text(SCORER, encoding="utf-8")
    return f"{tmp_path}/marks.py:Marks"


def rows(count=25, seed=0):
    rng = random.Random(seed)
    return [
        {"id": f"d{i}", "text": "".join(rng.choices(PIECES, k=rng.randint(0, 8))), "other": i, "source": f"s{i % 2}"}
        for i in range(count)
    ]


def write_lines(path, given_rows):
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in given_rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def expected(given_rows, scorer):
    documents = [Document(id=row["id"], text=row["text"], source=row["source"]) for row in given_rows]
    return list(annotate(documents, SentenceAnnotator(load_scorer(scorer))))


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


# What goes in and what comes out


@pytest.mark.parametrize("form", ["arrow", "parquet", "jsonl"])
@pytest.mark.parametrize("source", ["a.jsonl", "a.jsonl.gz", "a.parquet", "a.arrow", "saved", "folder"])
def test_every_form_in_and_out_is_the_same_as_in_memory(source, form, scorer, tmp_path):
    given_rows, path = rows(), tmp_path / source
    if "jsonl" in source:
        write_lines(path, given_rows)
    elif source == "a.parquet":
        pq.write_table(pa.Table.from_pylist(given_rows), path, row_group_size=4)
    elif source == "saved":
        datasets.Dataset.from_list(given_rows).save_to_disk(path)
    elif source == "folder":
        path.mkdir()
        write_lines(path / "train.jsonl", given_rows)
    else:
        table = pa.Table.from_pylist(given_rows)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    found = annotate_files(
        path, tmp_path / "out", AnnotationSettings(scorer=scorer), format=form, documents_per_shard=7
    )
    wanted = expected(given_rows, scorer)
    assert list(found) == wanted
    assert sorted(contents(tmp_path / "out")) == ["annotation.json", *(f"shard-00000{i}.{form}" for i in range(4))]


def test_documents_are_read_when_asked_for(scorer, tmp_path):
    given_rows = rows(60)
    annotate_files(
        write_lines(tmp_path / "a.jsonl", given_rows),
        tmp_path / "out",
        AnnotationSettings(scorer=scorer),
        documents_per_shard=7,
    )
    found, wanted = read_annotated(tmp_path / "out"), expected(given_rows, scorer)
    assert len(found) == 60
    order = random.Random(1).sample(range(60), 60)
    assert [found[i] for i in order] == [wanted[i] for i in order]
    assert found[-1] == wanted[-1]
    assert found[5:50:9] == wanted[5:50:9]
    for outside in (60, -61):
        with pytest.raises(IndexError):
            found[outside]
    again = pickle.loads(pickle.dumps(found))
    assert list(again) == wanted
    assert again.digest == found.digest
    arrow = datasets.Dataset.from_file(str(tmp_path / "out" / "shard-000001.arrow"))  # others can read it
    assert arrow[0]["text"] == wanted[7].text


def test_the_card_says_who_what_and_how_much(scorer, tmp_path):
    given_rows = rows(40)
    path = write_lines(tmp_path / "a.jsonl", given_rows)
    settings_ = AnnotationSettings(scorer=scorer, toxic_above=0.9, middle_above=0.1, kind="rude")
    card = annotate_files(path, tmp_path / "out", settings_).card
    wanted = list(
        annotate(
            [Document(id=row["id"], text=row["text"]) for row in given_rows],
            SentenceAnnotator(load_scorer(scorer), kind="rude", toxic_above=0.9, middle_above=0.1),
        )
    )
    counts = card["counts"]
    assert counts["documents"] == 40
    assert counts["characters"] == sum(len(row["text"]) for row in given_rows)
    for kind in ("rude", "rude:middle"):
        assert counts["characters_by_kind"][kind] == sum(
            span.end - span.start for one in wanted for span in one.spans if span.kind == kind
        )
    assert counts["unscored"]["a question"] == sum(row["text"].count("Who?") for row in given_rows)
    assert counts["sentences"] == sum(counts["sentences_by_band"].values())
    assert card["annotator"]["segmenter"]["name"] == "sentencex"
    assert card["annotator"]["scorer"]["name"] == card["scorer_card"]["name"] == "marks"
    assert card["input"]["files"][0]["name"] == "a.jsonl"
    assert str(tmp_path) not in json.dumps(card)


def test_spans_of_the_data_are_kept_in_every_form(tmp_path):
    text = "ten 😀 and more"
    write_lines(
        tmp_path / "a.jsonl",
        [
            {"id": 7, "text": text, "risky": [[0, 3], [2, 5, "x"], {"start": 1, "end": 4}]},
            {"text": text, "risky": []},
            {"id": "n", "text": text, "risky": None},
        ],
    )
    found = annotate_files(
        tmp_path / "a.jsonl", tmp_path / "out", AnnotationSettings(kind="odd"), columns=Columns(spans="risky")
    )
    assert [one.id for one in found] == ["7", "a.jsonl:2", "n"]
    assert [one.spans for one in found] == [(Span(0, 4, "odd"), Span(2, 5, "x")), (), ()]
    # an annotated folder is annotated again, with another annotator
    (tmp_path / "words").write_text("more\n")
    twice = annotate_files(
        tmp_path / "out",
        tmp_path / "twice",
        AnnotationSettings(wordlist=str(tmp_path / "words"), kind="listed"),
        columns=Columns(spans="spans"),
    )
    assert twice[0].spans == (Span(0, 4, "odd"), Span(2, 5, "x"), Span(10, 14, "listed"))
    assert twice[1].spans == (Span(10, 14, "listed"),)


def test_a_sequence_of_structs_is_spans_too(tmp_path):
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "spans": {"start": datasets.List(datasets.Value("int32")), "end": datasets.List(datasets.Value("int32"))},
        }
    )
    datasets.Dataset.from_list(
        [{"text": "abcdef", "spans": {"start": [0, 4], "end": [2, 6]}}], features=features
    ).save_to_disk(tmp_path / "saved")
    found = annotate_files(tmp_path / "saved", tmp_path / "out", AnnotationSettings(), columns=Columns(spans="spans"))
    assert found[0].spans == (Span(0, 2), Span(4, 6))


spans = st.builds(
    lambda start, length, kind: Span(start, start + length, kind),
    st.integers(0, 15),
    st.integers(1, 5),
    st.sampled_from(["toxic", "toxic:middle", "a name", "ü"]),
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=15)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(texts, texts, st.lists(spans, max_size=4)), min_size=1),
    st.sampled_from(["arrow", "parquet", "jsonl"]),
)
def test_documents_survive_the_disk(tmp_path, given_documents, form):
    documents = [
        Document(id=str(i), text=text + "." * 20, source=source, spans=merge_spans(found))
        for i, (text, source, found) in enumerate(given_documents)
    ]
    entry = write_shard(tmp_path / f"shard-000000.{form}", documents, form)
    card = {"format": form, "shards": [vars(entry)]}
    (tmp_path / "annotation.json").write_text(json.dumps(card))
    found = read_annotated(tmp_path)
    assert list(found) == documents
    assert [found[i] for i in range(len(found))] == documents


# What is wrong


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "x", "text": "caf\xe9"}', "is not UTF-8"),
        (b'{"id": "x", "text": "a\\u0000b"}', "NUL"),
        (b'{"id": "x", "text": "a\\ud800b"}', "lone surrogate"),
        (b'{"id": "x", "text": ', "not JSON"),
        (b'["text"]', "a JSON list"),
        (b'{"id": "x"}', "column 'text' is not there"),
        (b'{"id": "x", "text": null}', "column 'text' is NoneType"),
        (b'{"id": [1], "text": "a"}', "column 'id' is list"),
        (b'{"id": "x", "text": "abc", "spans": [[0, 4]]}', r"span \[0, 4\) is not in its 3 characters"),
        (b'{"id": "x", "text": "abc", "spans": [[2, 1]]}', r"span \[2, 1\) is not in"),
        (b'{"id": "x", "text": "abc", "spans": [[1, 1]]}', r"span \[1, 1\) is not in"),
        (b'{"id": "x", "text": "abc", "spans": [[-1, 1]]}', r"span \[-1, 1\) is not in"),
        (b'{"id": "x", "text": "", "spans": [[0, 1]]}', "not in its 0 characters"),
        (b'{"id": "x", "text": "abc", "spans": [[0.5, 1]]}', r"expected \[start, end\]"),
        (b'{"id": "x", "text": "abc", "spans": [[0, 1, ""]]}', r"expected \[start, end\]"),
        (b'{"id": "x", "text": "abc", "spans": {"start": [1], "end": []}}', "expected a list of spans"),
        (b'{"id": "x", "text": "abc", "spans": 3}', "expected a list of spans"),
        (b'{"id": "x", "text": "abc"}', "no column 'spans'"),
    ],
)
def test_a_wrong_row_is_an_error_of_one_line_or_skipped_and_counted(line, message, tmp_path):
    path = tmp_path / "a.jsonl"
    good = b'{"id": "%d", "text": "fine", "spans": [[0, 1], [0, 3]]}'
    path.write_bytes(b"\n".join([good % 1, line, good % 2]))
    columns = Columns(spans="spans")
    with pytest.raises(DataError, match=message) as error:
        annotate_files(path, tmp_path / "out", AnnotationSettings(), columns=columns)
    assert str(error.value).startswith("a.jsonl:2: ")
    assert "\n" not in str(error.value)
    assert contents(tmp_path / "out") == {}
    found = annotate_files(path, tmp_path / "out", AnnotationSettings(), columns=columns, invalid="skip")
    assert [one.id for one in found] == ["1", "2"]
    assert found[0].spans == (Span(0, 3),)
    assert found.card["counts"]["invalid"] == 1
    assert found.card["counts"]["invalid_examples"] == [str(error.value)]


def test_what_was_finished_before_a_wrong_row_is_kept(scorer, tmp_path):
    given_rows = rows(10)
    path = write_lines(tmp_path / "a.jsonl", [*given_rows[:7], {"id": "x"}, *given_rows[7:]])
    options = {"documents_per_shard": 3}
    with pytest.raises(DataError, match=r"a\.jsonl:8"):
        annotate_files(path, tmp_path / "out", AnnotationSettings(scorer=scorer), **options)
    first = contents(tmp_path / "out")
    assert {"shard-000000.arrow", "shard-000001.arrow"} < first.keys()
    found = annotate_files(path, tmp_path / "out", AnnotationSettings(scorer=scorer), invalid="skip", **options)
    assert list(found) == expected(given_rows, scorer)
    assert contents(tmp_path / "out")["shard-000000.arrow"] == first["shard-000000.arrow"]


def test_wrong_calls_are_one_line_and_leave_nothing(scorer, tmp_path, monkeypatch):
    path = write_lines(tmp_path / "a.jsonl", rows(3))
    out = tmp_path / "out"
    by_scorer = AnnotationSettings(scorer=scorer)

    def refused(kind, message, *arguments, **options):
        with pytest.raises(kind, match=message) as error:
            annotate_files(*arguments, **options)
        assert "\n" not in str(error.value)
        assert not out.exists()
        assert isinstance(error.value, DetoxError)

    refused(MissingData, "no file .*none.jsonl", tmp_path / "none.jsonl", out, by_scorer)
    refused(MissingData, "the hub has no such data set", "nobody/nothing", out, by_scorer)
    refused(InputError, "nothing to annotate with", path, out, AnnotationSettings())
    refused(InputError, "no input", [], out, by_scorer)
    refused(InputError, "of several kinds", [path, tmp_path / "b.parquet"], out, by_scorer)
    refused(UnknownName, "format 'arow'; did you mean 'arrow'", path, out, by_scorer, format="arow")
    refused(UnknownName, "invalid 'skp'", path, out, by_scorer, invalid="skp")
    refused(InputError, "num_workers is 0", path, out, by_scorer, num_workers=0)
    refused(InputError, "limit is 0", path, out, by_scorer, limit=0)
    refused(UnknownName, "scorer 'profanitty'", path, out, AnnotationSettings(scorer="profanitty"))
    refused(MissingData, "no word list at", path, out, AnnotationSettings(wordlist="none"))
    with pytest.raises(InputError, match="a scorer and a word list"):
        AnnotationSettings(scorer=scorer, wordlist="w")
    pq.write_table(pa.table({"txt": ["a"]}), tmp_path / "b.parquet")
    refused(UnknownName, "column of b.parquet 'text'; did you mean 'txt'", tmp_path / "b.parquet", out, by_scorer)
    (tmp_path / "c.parquet").write_bytes(b"PAR1 no more")
    refused(DataError, "c.parquet: not readable", tmp_path / "c.parquet", out, by_scorer)


@pytest.mark.parametrize("lines", [[], [{"id": "x"}, {"id": "y"}]])
def test_nothing_to_annotate_is_an_error_and_leaves_nothing(lines, scorer, tmp_path):
    path = write_lines(tmp_path / "a.jsonl", lines)
    with pytest.raises(InputError, match=rf"no document \({len(lines)} rows were skipped\)"):
        annotate_files(path, tmp_path / "out", AnnotationSettings(scorer=scorer), invalid="skip")
    assert contents(tmp_path / "out") == {}


def test_foreign_folders_are_left_alone(scorer, tmp_path):
    path = write_lines(tmp_path / "a.jsonl", rows(3))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "shard-000000.arrow").write_text("precious")
    with pytest.raises(OutputError, match=r"holds shard-000000\.arrow"):
        annotate_files(path, folder, AnnotationSettings(scorer=scorer))
    assert contents(folder) == {"shard-000000.arrow": b"precious"}
    with pytest.raises(OutputError, match="is a file"):
        annotate_files(path, folder / "shard-000000.arrow", AnnotationSettings(scorer=scorer))


def test_reading_what_is_not_finished_or_damaged_is_one_line(scorer, tmp_path):
    with pytest.raises(MissingData, match="no folder"):
        read_annotated(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds no annotation\.json"):
        read_annotated(tmp_path)
    out = tmp_path / "out"
    annotate_files(write_lines(tmp_path / "a.jsonl", rows(3)), out, AnnotationSettings(scorer=scorer))
    shard = out / "shard-000000.arrow"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"its annotation\.json says"):
        read_annotated(out)
    shard.unlink()
    with pytest.raises(MissingData, match="lacks shard-000000"):
        read_annotated(out)
    (out / "annotation.json").write_text("{")
    with pytest.raises(DataError, match="not the card"):
        read_annotated(out)


# Going on


def test_another_setting_or_input_is_refused_by_name(scorer, tmp_path):
    path = write_lines(tmp_path / "a.jsonl", rows(9))
    annotate_files(path, tmp_path / "out", AnnotationSettings(scorer=scorer), documents_per_shard=4)
    before = contents(tmp_path / "out")

    def again(message, settings_=None, **options):
        options = {"documents_per_shard": 4} | options
        with pytest.raises(InputError, match=message):
            annotate_files(path, tmp_path / "out", settings_ or AnnotationSettings(scorer=scorer), **options)

    again("begun with annotator.toxic_above 0.99, now it is 0.9", AnnotationSettings(scorer=scorer, toxic_above=0.9))
    again("annotator.kind 'toxic', now it is 'x'", AnnotationSettings(scorer=scorer, kind="x"))
    again("format 'arrow', now it is 'jsonl'", format="jsonl")
    again("input.limit None, now it is 3", limit=3)
    again("documents_per_shard 4, now it is 5", documents_per_shard=5)
    write_lines(path, rows(9, seed=1))
    again("input.files.0.(bytes|sha256)")
    write_lines(path, rows(9))
    found = annotate_files(
        path, tmp_path / "out", AnnotationSettings(scorer=scorer), documents_per_shard=4, num_workers=2
    )
    assert len(found) == 9  # nothing is computed again
    assert contents(tmp_path / "out") == before


def test_a_stop_at_any_shard_goes_on_to_the_same_folder(scorer, tmp_path, monkeypatch):
    from detox.pretraining.annotation import files as annotation_files

    given_rows = rows(20)
    path = write_lines(tmp_path / "a.jsonl.gz", [*given_rows[:5], {"no": "text"}, *given_rows[5:]])
    options = {"documents_per_shard": 4, "invalid": "skip", "limit": 18}
    annotate_files(path, tmp_path / "whole", AnnotationSettings(scorer=scorer), **options)
    real = annotation_files.annotate_shard
    for stop_at in range(6):
        calls = []

        def stopping(task, annotator, calls=calls, stop_at=stop_at):
            calls.append(task)
            if len(calls) > stop_at:
                raise KeyboardInterrupt
            return real(task, annotator)

        out = tmp_path / f"out{stop_at}"
        with monkeypatch.context() as patch:
            patch.setattr(annotation_files, "annotate_shard", stopping)
            if stop_at < 5:
                with pytest.raises(KeyboardInterrupt, match=f"in {stop_at} shards; the same command goes on"):
                    annotate_files(path, out, AnnotationSettings(scorer=scorer), **options)
        made = []

        def counting(task, annotator, made=made):
            made.append(task)
            return real(task, annotator)

        with monkeypatch.context() as patch:
            patch.setattr(annotation_files, "annotate_shard", counting)
            annotate_files(path, out, AnnotationSettings(scorer=scorer), **options)
        assert len(made) == 5 - (stop_at if stop_at < 5 else 0)  # what was there is not made again
        assert contents(out) == contents(tmp_path / "whole")


def test_a_shard_that_was_cut_short_is_made_again(scorer, tmp_path, monkeypatch):
    from detox.pretraining.annotation import files as annotation_files

    path = write_lines(tmp_path / "a.jsonl", rows(12))
    options = {"documents_per_shard": 4}
    annotate_files(path, tmp_path / "whole", AnnotationSettings(scorer=scorer), **options)
    with monkeypatch.context() as patch:  # killed before the card
        patch.setattr(annotation_files, "_card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            annotate_files(path, tmp_path / "out", AnnotationSettings(scorer=scorer), **options)
    (tmp_path / "out" / "shard-000001.arrow").write_bytes(b"cut")
    (tmp_path / "out" / ".shard-000002.arrow.x1").write_bytes(b"half")
    annotate_files(path, tmp_path / "out", AnnotationSettings(scorer=scorer), **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


PROGRAM = """
import sys
from detox.cli import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def begin(tmp_path, scorer_file, out, *flags, pause, **options):
    words = [
        "data", "annotate", "--input", str(tmp_path / "a.jsonl"), "--output_dir", str(out), "--scorer", scorer_file,
        "--documents_per_shard", "5", *flags,
    ]  # fmt: skip
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, str(program), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MARKS_PAUSE": str(pause)},
        **options,
    )


@pytest.fixture
def pausing(tmp_path):
    # The pause is not part of the scorer's identity: how long it takes changes no label.
    source = SCORER.replace("pause=0.0", "pause=None").replace(
        "self.pause = pause", "import os; self.pause = float(os.environ['MARKS_PAUSE'])"
    )
    (tmp_path / "marks.py").write_text(source, encoding="utf-8")
    write_lines(tmp_path / "a.jsonl", rows(60))
    return f"{tmp_path}/marks.py:Marks"


def wait_for(condition, process, seconds=900):
    started = time.monotonic()
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() - started < seconds
        time.sleep(0.02)


def children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 2])
def test_killed_and_begun_again_is_as_if_nothing_had_happened(num_workers, pausing, tmp_path, monkeypatch):
    monkeypatch.setenv("MARKS_PAUSE", "0")
    annotate_files(tmp_path / "a.jsonl", tmp_path / "whole", AnnotationSettings(scorer=pausing), documents_per_shard=5)
    out = tmp_path / "out"
    flags = ["--num_workers", str(num_workers)]
    process = begin(tmp_path, pausing, out, *flags, pause=0.02)
    wait_for(lambda: (out / "shard-000002.record.json").is_file(), process)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "annotation.json").exists()
    with pytest.raises(DataError, match="not to the end"):
        read_annotated(out)
    kept = {name: data for name, data in contents(out).items() if name <= "shard-000002.arrow" and name[0] == "s"}
    assert len(kept) >= 3
    process = begin(tmp_path, pausing, out, *flags, pause=0)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert contents(out) == contents(tmp_path / "whole")
    assert not any(alive(worker) for worker in workers)  # nobody is left behind


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_leaves_nothing_half_written(pausing, tmp_path, monkeypatch):
    out = tmp_path / "out"
    flags = ["--num_workers", "2"]
    process = begin(tmp_path, pausing, out, *flags, pause=0.05, preexec_fn=hear_ctrl_c, start_new_session=True)
    wait_for(lambda: (out / "shard-000001.record.json").is_file(), process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers hear it too
    out_text, err = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "documents in" in err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert out_text == ""
    assert not [name for name in contents(out) if name.startswith(".")]
    monkeypatch.setenv("MARKS_PAUSE", "0")
    assert (
        len(annotate_files(tmp_path / "a.jsonl", out, AnnotationSettings(scorer=pausing), documents_per_shard=5)) == 60
    )


@pytest.mark.parametrize(
    "full", ["shard-000001.arrow", "shard-000001.record.json", "annotation-state.json", "annotation.json"]
)
def test_a_disk_that_is_full_at_any_file_is_one_line(full, scorer, tmp_path, monkeypatch):
    path = write_lines(tmp_path / "a.jsonl", rows(12))
    out, options = tmp_path / "out", {"documents_per_shard": 4}
    real = os.replace

    def no_room(source, target, **others):
        if Path(target).name == full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target, **others)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", no_room)
        with pytest.raises(OutputError, match=f"cannot write .*{full}.*: No space left on device; make room") as error:
            annotate_files(path, out, AnnotationSettings(scorer=scorer), **options)
    assert "\n" not in str(error.value)
    assert not [name for name in contents(out) if name.startswith(".") or name == full]
    annotate_files(path, out, AnnotationSettings(scorer=scorer), **options)
    annotate_files(path, tmp_path / "whole", AnnotationSettings(scorer=scorer), **options)
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_rest_goes_on(pausing, tmp_path, monkeypatch):
    # A limit on the size of a file stands in for a disk that fills up within a shard.
    long = rows(60)
    long[33]["text"] = "Fine here. " * 20_000
    write_lines(tmp_path / "a.jsonl", long)
    out = tmp_path / "out"
    flags = ["--num_workers", "2"]

    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = begin(tmp_path, pausing, out, *flags, pause=0, preexec_fn=little_room)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 2
    assert err.startswith("error: cannot write shard-000006.arrow (0.2 MiB)")
    assert "make room" in err
    assert len(err.splitlines()) == 1
    assert not [name for name in contents(out) if name.startswith(".")]
    assert (out / "shard-000005.record.json").is_file()
    monkeypatch.setenv("MARKS_PAUSE", "0")
    found = annotate_files(tmp_path / "a.jsonl", out, AnnotationSettings(scorer=pausing), documents_per_shard=5)
    assert [one.text for one in found] == [row["text"] for row in long]


@pytest.mark.slow
def test_workers_change_nothing_and_their_errors_are_ours(scorer, tmp_path):
    given_rows = rows(43)
    path = write_lines(tmp_path / "a.jsonl", [*given_rows[:20], {"id": "bad"}, *given_rows[20:]])
    options = {"documents_per_shard": 4}
    settings_ = AnnotationSettings(scorer=scorer)
    with pytest.raises(DataError, match=r"^a\.jsonl:21: column 'text' is not there"):
        annotate_files(path, tmp_path / "failed", settings_, num_workers=2, **options)
    annotate_files(path, tmp_path / "one", settings_, invalid="skip", **options)
    found = annotate_files(path, tmp_path / "two", settings_, invalid="skip", num_workers=2, **options)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert list(found) == expected(given_rows, scorer)
    strict = AnnotationSettings(scorer=scorer, missing="error")
    with pytest.raises(InputError, match=r"could not score this sentence \(a question\)"):
        annotate_files(path, tmp_path / "three", strict, invalid="skip", num_workers=2)
    assert contents(tmp_path / "three") == {}


@pytest.mark.slow
def test_a_worker_that_is_killed_is_one_line(pausing, tmp_path, monkeypatch):
    out = tmp_path / "out"
    process = begin(tmp_path, pausing, out, "--num_workers", "2", pause=0.05)
    wait_for(lambda: (out / "shard-000001.record.json").is_file(), process)
    victim = next(
        child for child in children(process.pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    )
    os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 2
    assert "a worker process ended" in err.splitlines()[-1]
    assert "Traceback" not in err
    monkeypatch.setenv("MARKS_PAUSE", "0")
    assert (
        len(annotate_files(tmp_path / "a.jsonl", out, AnnotationSettings(scorer=pausing), documents_per_shard=5)) == 60
    )


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from detox.pretraining import AnnotationSettings, Columns, annotate_files\n"
        "def mib(what):\n"
        "    return int(next(l.split()[1] for l in open('/proc/self/status') if l.startswith(what))) / 1024\n"
        "path, out = sys.argv[1:]\n"
        "options = {'columns': Columns(spans='spans'), 'documents_per_shard': 50}\n"
        "annotate_files(path, out + '-first', AnnotationSettings(), limit=200, **options)\n"
        "before = mib('VmHWM')\n"
        "found = annotate_files(path, out, AnnotationSettings(), **options)\n"
        "peak = mib('VmHWM') - before\n"
        "before = mib('RssAnon')\n"
        "assert sum(len(one.text) for one in found) > 90e6\n"
        "print(peak, mib('RssAnon') - before)\n"
    )
    line = json.dumps({"text": "A quiet garden, so it is said. " * 1000, "spans": [[2, 7]]}) + "\n"
    with (tmp_path / "a.jsonl").open("w") as file:
        for _ in range(3000):
            file.write(line)
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "a.jsonl"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    annotating, reading = map(float, done.stdout.split())
    assert annotating < 25  # MiB, of 93 MB of text
    assert reading < 25
