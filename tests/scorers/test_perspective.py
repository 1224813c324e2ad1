"""Perspective: the cache, its replay, and the client against a real server on the loopback that speaks its JSON."""

from __future__ import annotations

import gzip
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.data.fit_sources import FitSources
from detox.errors import DataError, EndpointFailed, InputError, MissingData, UnknownName
from detox.scorers import PerspectiveScorer, ReplayScorer, load_scorer, overlap, score_texts
from detox.scorers.perspective import ATTRIBUTES, GIVE_UP_AFTER, KEY_VARIABLE, MAX_BYTES, SERVICE
from detox.scorers.score_cache import Answer, content_sha256, opened, read_scores, text_key, write_scores
from tests.scorers.perspective_server import by_length, error, scored, serving

FAST = {"per_second": 1000.0, "pause": 0.001, "timeout": 5.0}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "a key")
    return tmp_path / "perspective.jsonl.gz"


def client(cache, server, **options):
    return PerspectiveScorer(cache, url=server.url, **{**FAST, **options})


# --- the cache ---

ANSWERS = st.dictionaries(
    st.text(max_size=5).map(text_key),
    st.one_of(
        st.builds(
            lambda scores: Answer(date="2026-03-01", scores=scores),
            st.dictionaries(st.sampled_from(ATTRIBUTES), st.floats(0, 1), min_size=1),
        ),
        st.builds(lambda reason: Answer(date="2026-03-02", reason=reason), st.text(min_size=1, max_size=5)),
    ),
    max_size=6,
)


@given(ANSWERS)
def test_a_cache_comes_back_as_it_was(tmp_path_factory, answers):
    file = tmp_path_factory.mktemp("cache") / "a.jsonl.gz"
    write_scores(file, "a service", answers)
    assert read_scores(file) == ("a service", answers)
    assert content_sha256("a service", dict(reversed(answers.items()))) == content_sha256("a service", answers)


def test_every_answer_is_there_at_once_and_a_torn_one_is_asked_for_again(tmp_path):
    file = tmp_path / "a.jsonl.gz"

    def killed():
        with opened(file, "a service") as cache:
            for number in range(50):
                cache.add(f"text {number}", Answer(date="2026-03-01", scores={"toxicity": number / 50}))
                if number % 10 == 0:
                    assert len(read_scores(file)[1]) == number + 1
            raise RuntimeError("a kill")

    with pytest.raises(RuntimeError):
        killed()
    whole = file.read_bytes()
    for cut in (1, 5, 20):
        file.write_bytes(whole[:-cut])
        assert len(read_scores(file)[1]) == 49
    with opened(file, "a service") as cache:
        assert cache.get("text 48") is not None
        assert cache.get("text 49") is None
        cache.add("text 49", Answer(date="2026-03-02", scores={"toxicity": 1.0}))
    assert len(read_scores(file)[1]) == 50
    assert file.stat().st_size < len(whole) / 2  # packed when the work is done
    assert "text 4" not in gzip.decompress(file.read_bytes()).decode()  # texts are not kept


def test_what_is_no_cache_is_named_with_its_line(tmp_path):
    file = tmp_path / "a.jsonl.gz"
    head = b'{"scores_of": "s", "format": 1}\n'
    row = {"sha256": "a", "date": "2026-03-01", "scores": {"toxicity": 0.5}}
    for content, says in (
        (b"", "a.jsonl.gz:1: empty"),
        (b"[]\n", "a.jsonl.gz:1: not a line"),
        (b'{"scores_of": "s", "format": 2}\n', "a.jsonl.gz:1: not a line of a cache of scores \\(format 2"),
        (head + b"{}\n", "a.jsonl.gz:2: not a line"),
        (head + json.dumps({**row, "scores": {"toxicity": 1.5}}).encode(), "a.jsonl.gz:2: .*numbers in"),
        (head + json.dumps({**row, "scores": {}}).encode(), "a.jsonl.gz:2"),
        (head + json.dumps({**row, "reason": ""}).encode(), "a.jsonl.gz:2: .*reason must be text"),
    ):
        file.write_bytes(gzip.compress(content))
        with pytest.raises(DataError, match=says):
            read_scores(file)
    for raw, says in ((b"plain text", "not gzip"), (gzip.compress(head)[:9], "cut short")):
        file.write_bytes(raw)
        with pytest.raises(DataError, match=says):
            read_scores(file)
    with pytest.raises(MissingData, match="no cache of scores at"):
        read_scores(tmp_path / "nowhere.jsonl.gz")


def test_one_process_adds_at_a_time_and_to_its_own_service(tmp_path):
    file = tmp_path / "a.jsonl.gz"
    with opened(file, "a service"), pytest.raises(InputError, match="another process"), opened(file, "a service"):
        pass
    with pytest.raises(DataError, match="scores of 'a service', not of 'another'"), opened(file, "another"):
        pass
    with pytest.raises(InputError, match=r"ends in \.jsonl\.gz"), opened(tmp_path / "a.txt", "a service"):
        pass


# --- replay ---


def replayed(tmp_path, answers, service=SERVICE):
    file = tmp_path / "a.jsonl.gz"
    write_scores(file, service, {text_key(text): answer for text, answer in answers.items()})
    return file


def test_replay_gives_what_is_there_and_says_what_is_not(tmp_path):
    file = replayed(
        tmp_path,
        {
            "known": Answer(date="2026-03-01", scores={"toxicity": 0.7, "insult": 0.2}),
            "a\ud800b": Answer(date="2026-01-05", scores={"toxicity": 0.1}),
            "refused": Answer(date="2026-02-01", reason="refused: LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"),
            "no toxicity": Answer(date="2026-02-01", scores={"insult": 0.4}),
        },
    )
    scorer = load_scorer(f"replay:{file}")
    scores = score_texts(scorer, ["known", "unknown", "a\ud800b", "", "refused", "no toxicity"])
    assert (scores[0].value, scores[0].attributes) == (0.7, {"toxicity": 0.7, "insult": 0.2})
    assert scores[2].value == 0.1
    assert [one.reason for one in scores] == [
        None,
        "not in the cache",
        None,
        "empty",
        "refused: LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
        "no toxicity in the cache",
    ]
    assert scores[5].attributes == {"insult": 0.4}
    card = scorer.card
    assert card.settings["asked"] == ["2026-01-05", "2026-03-01"]
    assert "no versions" in card.settings["service"]
    assert ReplayScorer(file, attribute="insult").score(["known"])[0].value == 0.2
    with pytest.raises(UnknownName, match="did you mean 'insult'"):
        ReplayScorer(file, attribute="insults")


def test_other_scores_are_another_ruler_and_perspectives_own_data_overlaps(tmp_path):
    first = ReplayScorer(replayed(tmp_path, {"a": Answer(date="2026-03-01", scores={"toxicity": 0.7})})).card
    other = ReplayScorer(replayed(tmp_path, {"a": Answer(date="2026-03-01", scores={"toxicity": 0.8})})).card
    assert first.identity() != other.identity()
    assert overlap(first, FitSources(datasets=("cat_wiki_dialogues",)))
    assert overlap(first, FitSources(datasets=("paradetox",))) is None


# --- the client ---


def test_what_is_answered_is_cached_and_replayed_alike(cache):
    texts = ["a", "bb", "a", "a\ud800b", "", "\U0001f600 \u05e9\u05dc\u05d5\u05dd"]
    with serving() as server:
        scores = score_texts(client(cache, server), texts)
        again = score_texts(client(cache, server), texts)
        assert len(server.bodies) == 4
        first = server.bodies[0]
        assert first["languages"] == ["en"]
        assert first["doNotStore"] is True
        assert set(first["requestedAttributes"]) == {name.upper() for name in ATTRIBUTES}
        assert "a key" not in first["path"]
    assert scores == again == score_texts(ReplayScorer(cache), texts)
    assert [round(one.value, 2) for one in scores[:3]] == [0.01, 0.02, 0.01]
    assert set(scores[0].attributes) == set(ATTRIBUTES)
    assert scores[4].reason == "empty"
    assert b"a key" not in gzip.decompress(cache.read_bytes())


def test_it_asks_again_and_waits_as_long_as_it_is_told(cache):
    def busy_twice(body, before):
        if before < 2:
            return error(429 if before else 503, "busy", headers={"Retry-After": "0.2"} if before else {})
        return by_length(body)

    with serving(busy_twice) as server:
        (score,) = client(cache, server).score(["abc"])
        waits = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert score.value == pytest.approx(0.03)
    assert waits[1] >= 0.14  # three quarters of what it was told, at least


def test_a_text_without_an_answer_is_missing_and_asked_for_next_time(cache):
    down = {"bad": True}

    def sometimes(body):
        text = body["comment"]["text"]
        return (
            error(500, "oh")
            if text == "bad" and down["bad"]
            else (200, {}, b"<html>")
            if text == "html"
            else by_length(body)
        )

    with serving(sometimes) as server:
        scores = client(cache, server, retries=1).score(["good", "bad", "html", "fine"])
        assert [one.reason for one in scores] == [
            None,
            "no answer (status 500), asked 2 times",
            "an answer without scores (JSONDecodeError), asked 2 times",
            None,
        ]
        down["bad"] = False
        assert client(cache, server).score(["bad"])[0].value == pytest.approx(0.03)


def test_a_text_that_the_service_refuses_is_missing_for_good_and_is_not_quoted(cache):
    def refuse(body):
        return error(400, "Attribute TOXICITY: secret text", "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE")

    with serving(refuse) as server:
        scorer = client(cache, server)
        assert [one.reason for one in scorer.score(["x", "x"])] == ["refused: LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"] * 2
        assert len(server.bodies) == 1
    with serving(lambda body: error(400, "something about secret text")) as server:
        assert client(cache, server).score(["y"])[0].reason == "refused (status 400)"
    assert b"secret" not in gzip.decompress(cache.read_bytes())


def test_too_long_a_text_is_not_sent(cache):
    with serving() as server:
        scores = client(cache, server).score(["a" * 100_000, "é" * (MAX_BYTES // 2), "é" * (MAX_BYTES // 2 + 1)])
        assert len(server.bodies) == 1
    assert [one.reason for one in scores] == [f"longer than {MAX_BYTES} bytes", None, f"longer than {MAX_BYTES} bytes"]


@pytest.mark.parametrize(
    ("answer", "key", "says"),
    [
        (by_length, "another key", "refuses the key"),
        (lambda body: error(403, "no"), "a key", "refuses the key"),
        (lambda body: error(404, "gone"), "a key", r"is not there \(status 404; .*31 December 2026"),
        (lambda body: error(410, "gone"), "a key", "replay a cache"),
    ],
)
def test_what_no_text_can_pass_ends_the_work_at_once(cache, answer, key, says):
    with serving(answer, key=key) as server:
        with pytest.raises(EndpointFailed, match=says) as caught:
            client(cache, server).score(["x", "y", "z"])
        assert len(server.bodies) == 1
    assert "a key" not in str(caught.value).replace("the key", "")


def test_a_service_that_has_gone_ends_the_work_and_loses_nothing(cache):
    with serving() as server:
        client(cache, server).score(["before"])
        gone = server.url
    with pytest.raises(
        EndpointFailed, match=f"{GIVE_UP_AFTER} texts in a row got no answer.*what was answered is kept"
    ):
        PerspectiveScorer(cache, url=gone, **FAST, retries=0).score(["before", *"abcdefgh"])
    assert ReplayScorer(cache).score(["before"])[0].value == pytest.approx(0.06)


def test_silence_is_waited_for_only_so_long(cache):
    with serving(lambda body: "silence") as server:
        (score,) = client(cache, server, timeout=0.2, retries=0).score(["x"])
    assert score.reason.startswith("no answer (")


def test_the_rate_is_bounded(cache):
    with serving() as server:
        client(cache, server, per_second=20.0).score(list("abcdef"))
        gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert len(gaps) == 5
    assert server.times[-1] - server.times[0] >= 0.24  # five intervals of 50 ms, less what the sockets shift


def test_more_attributes_than_are_cached_are_asked_for(cache):
    with serving() as server:
        client(cache, server, attributes=["toxicity"]).score(["abc"])
        (score,) = client(cache, server).score(["abc"])
        assert set(score.attributes) == set(ATTRIBUTES)
        client(cache, server, attributes=["toxicity"]).score(["abc"])
        assert len(server.bodies) == 2


def test_a_score_out_of_range_is_no_score(cache):
    with serving(lambda body: scored(body, dict.fromkeys(ATTRIBUTES, 1.5))) as server:
        (score,) = client(cache, server, retries=0).score(["x"])
    assert score.reason == "an answer without scores (ValueError), asked 1 times"


def test_wrong_settings_are_one_line(cache, monkeypatch):
    for options, says in (
        ({"attribute": "rudeness"}, "attribute 'rudeness' is not asked for"),
        ({"per_second": 0}, "must be above 0"),
        ({"url": "nowhere"}, "address 'nowhere'"),
    ):
        with pytest.raises(InputError, match=says):
            PerspectiveScorer(cache, **options)
    assert load_scorer({"name": "perspective-api", "cache": str(cache)}).card.revision.startswith(
        "no version; asked 20"
    )
    with pytest.raises(InputError, match="cache"):
        load_scorer("perspective-api")
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(MissingData, match=f"set {KEY_VARIABLE}"):
        PerspectiveScorer(cache)


def test_two_processes_do_not_fill_one_cache(cache):
    waiting, go = threading.Event(), threading.Event()

    def slow(body):
        waiting.set()
        go.wait(10)
        return by_length(body)

    with serving(slow) as server:
        work = threading.Thread(target=client(cache, server).score, args=(["x"],))
        work.start()
        assert waiting.wait(10)
        with pytest.raises(InputError, match="another process is adding"):
            client(cache, server).score(["y"])
        go.set()
        work.join()


def test_a_cache_is_of_one_language(cache):
    with serving(by_length) as server:
        score_texts(client(cache, server), ["a text"])
        with pytest.raises(DataError, match="scores of 'Perspective API', not of 'Perspective API, asked in fr'"):
            score_texts(client(cache, server, language="fr"), ["a text"])
        other = cache.with_name("fr.jsonl.gz")
        score_texts(client(other, server, language="fr"), ["a text"])
    assert ReplayScorer(other).card.trained_on == ReplayScorer(cache).card.trained_on == ("perspective-api",)
    assert ReplayScorer(other).card.identity() != ReplayScorer(cache).card.identity()
