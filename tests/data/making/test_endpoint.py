"""A writer behind an address: a real server on 127.0.0.1, with a tiny model in it, and everything that can be wrong with one."""

from __future__ import annotations

import socket
import time

import pytest

from detox.data.making import EndpointWriter, Request, Seed, make_contrasts
from detox.data.making.writers import Answered, Unanswered
from detox.errors import EndpointFailed, InputError, MissingData, UnknownName
from tests.data.making.conftest import INSTRUCTIONS, SAMPLING, loose_filters
from tests.data.making.server import HTML, answer, serving, status

pytest.importorskip("openai")


def writer_at(url, **settings):
    chosen = {"sampling": SAMPLING, "instructions": INSTRUCTIONS, "form": "plain", "retries": 2, "pause": 0.01}
    return EndpointWriter(url=url, **(chosen | settings))


def requests(number):
    return [
        Request(f"s{n}", f"topic{n % 12} topic{n // 12} kind1", side)
        for n in range(number)
        for side in ("safe", "toxic")
    ]


def ask(url, number=3, **settings):
    return sorted(writer_at(url, **settings).write(requests(number)), key=lambda one: one.request)


def test_both_forms_get_the_texts_of_the_model(writing):
    with serving(writing) as server:
        plain = ask(server.url)
        chat = ask(server.url, form="chat", sampling=SAMPLING)
    assert len(plain) == len(chat) == 6
    for one in (*plain, *chat):
        assert isinstance(one, Answered)
        assert len(one.texts) == 4
        tone = "kind" if one.request.side == "safe" else "rude"
        assert sum(text.text.count(tone) for text in one.texts) > 10
    body = server.bodies[0]
    assert (body["model"], body["n"], body["max_tokens"], body["temperature"]) == ("planted", 4, 14, 1.0)
    assert len({one["seed"] for one in server.bodies[:6]}) == 6


def test_the_same_again_is_the_same(writing):
    with serving(writing) as server:
        assert ask(server.url) == ask(server.url, concurrency=1)
        assert ask(server.url) != ask(server.url, sampling=type(SAMPLING)(**{**vars(SAMPLING), "seed": 1}))


def test_an_endpoint_that_gives_fewer_at_once_is_asked_for_the_rest(writing):
    with serving(writing, most_choices=1) as server:
        found = ask(server.url, 1)
    assert [len(one.texts) for one in found] == [4, 4]
    assert len(server.bodies) == 8
    assert sorted(body["n"] for body in server.bodies) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert len({text.text for text in found[0].texts}) > 1  # not the same one four times


def test_no_more_at_once_than_allowed(writing):
    with serving(writing, delay=0.02) as server:
        assert len(ask(server.url, 10, concurrency=3)) == 20
        assert server.most_under_way == 3


def test_what_fails_for_a_while_is_asked_again(writing):
    faults = [
        status(503),
        status(429, headers={"Retry-After": "0.05"}),
        HTML,
        answer(b'{"id": '),
        answer({"choices": []}),
    ]

    def fault(number, body):
        return faults[number] if number < len(faults) else None

    with serving(writing, fault=fault) as server:
        found = ask(server.url, 2, concurrency=1, retries=5)
        assert all(isinstance(one, Answered) for one in found)
        assert len(server.bodies) == 4 + len(faults)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_an_endpoint_that_is_down(tmp_path):
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(
        EndpointFailed, match=r"cannot reach http://127.0.0.1:\d+/v1 \(.*refused; 3 times tried\); start the"
    ):
        ask(url)


@pytest.mark.slow
def test_one_that_goes_down_in_the_middle_and_comes_back_elsewhere(writing, seeds, tmp_path):
    def fault(number, body):
        return status(500, "out of memory") if number >= 5 else None

    output = tmp_path / "pairs.jsonl"
    with serving(writing, fault=fault) as server:
        writer = writer_at(server.url, concurrency=1)
        with pytest.raises(EndpointFailed, match=r"status 500: out of memory\); what was answered is kept"):
            make_contrasts(seeds, writer, output, filters=loose_filters())
    state = tmp_path / "pairs.answers.jsonl"
    assert len(state.read_bytes().splitlines()) == 1 + 5
    with serving(writing) as server:
        make_contrasts(seeds, writer_at(server.url), output, filters=loose_filters())
        assert len(server.bodies) == 24 - 5
        whole = tmp_path / "whole.jsonl"
        make_contrasts(seeds, writer_at(server.url), whole, filters=loose_filters())
        asked = len(server.bodies)
    assert output.read_bytes() == whole.read_bytes()
    assert (tmp_path / "pairs.record.json").read_bytes() == (tmp_path / "whole.record.json").read_bytes()
    # All is answered: no server is needed for other filters, where the model was named.
    with serving(writing) as server:
        make_contrasts(seeds, writer_at(server.url, model="planted"), output, filters=loose_filters(max_length=9.0))
        assert len(server.bodies) == 0
    assert asked == 24 - 5 + 24


def test_one_that_is_slow(writing):
    with serving(writing, fault=lambda number, body: "silence") as server:
        started = time.monotonic()
        with pytest.raises(EndpointFailed, match=r"gave no answer within 0.2 s \(2 times asked\); allow more time"):
            ask(server.url, timeout=0.2, retries=1)
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("garbage", "said"),
    [
        (HTML, "answered plain text without choices"),
        (answer({"hello": 1}), "without choices"),
        (answer([1, 2]), "without choices"),
        (answer({"choices": [{"index": 0, "message": {"role": "assistant", "content": 7}}]}), "a choice whose content"),
        (answer({"choices": ["text"]}), "a choice whose content"),
        (answer(b'{"choices": [{"ind'), "answered no JSON"),
        (answer(b"\xff\xfe\x00"), "answered no JSON"),
        (answer(b"null"), "without choices"),
        (answer(b'{"choices": 3}'), "without choices"),
        (answer(b'{"choices": [null]}'), "a choice whose content"),
    ],
)
@pytest.mark.parametrize("form", ["plain", "chat"])
def test_one_that_answers_garbage(garbage, said, form, writing):
    with serving(writing, fault=lambda number, body: garbage) as server:
        with pytest.raises(EndpointFailed, match="answered none of 5 requests in a row, the last: ") as caught:
            ask(server.url, 8, retries=1, form=form)
        assert len(server.bodies) < 32
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_garbage_for_one_sentence_is_not_the_end(writing):
    def fault(number, body):
        return HTML if "topic2 " in body["prompt"] else None

    with serving(writing, fault=fault) as server:
        found = ask(server.url, 4)
    assert [type(one) for one in found] == [Answered] * 4 + [Unanswered] * 2 + [Answered] * 2
    assert "expected a completion as in OpenAI's API" in found[4].reason


def test_a_request_that_is_not_taken_is_not_repeated(writing):
    def fault(number, body):
        return status(400, "this is longer than the context") if "topic2 " in body["prompt"] else None

    with serving(writing, fault=fault) as server:
        found = ask(server.url, 4)
        assert len(server.bodies) == 8
    assert "status 400: this is longer than the context" in found[4].reason


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (401, "set OPENAI_API_KEY to a key it takes"),
        (403, "set OPENAI_API_KEY to a key it takes"),
        (404, "most often ends in /v1"),
        (429, "ask fewer at once"),
        (500, "status 500"),
    ],
)
def test_one_that_refuses(code, said, writing, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret")
    with serving(writing, fault=lambda number, body: status(code, "not you")) as server:
        with pytest.raises(EndpointFailed) as caught:
            ask(server.url, retries=1)
        assert server.bodies[0]["key"] == "Bearer a-secret"
    assert said in str(caught.value)
    assert "not you" in str(caught.value)
    assert "a-secret" not in str(caught.value)


def test_a_model_that_does_not_want_to(writing, tmp_path):
    refusal = answer(
        {
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": None, "refusal": "No."},
                }
            ]
        }
    )

    def fault(number, body):
        return refusal if "rude1" in body["messages"][-1]["content"] else None

    with serving(writing, fault=fault) as server, pytest.raises(InputError, match=r"toxic: 0 of 8 \(8 refused\)"):
        make_contrasts(
            [Seed("a", "topic1 topic2"), Seed("b", "topic3 topic4")],
            writer_at(server.url, form="chat"), tmp_path / "pairs.jsonl", filters=loose_filters(),
        )  # fmt: skip


def test_a_model_needs_no_name_where_only_one_is_served(writing):
    with serving(writing) as server:
        assert writer_at(server.url).chosen_model == "planted"
        with pytest.raises(InputError, match="serves no list of models; name the model"):
            ask(server.url.removesuffix("/v1"))
        server.models = answer({"object": "list", "data": [{"id": "b"}, {"id": "a"}]})
        with pytest.raises(InputError, match="serves a, b; name the model"):
            ask(server.url)
        for garbage in (HTML, answer({"data": 3}), answer({"data": [{"id": 3}]}), answer(b"nul")):
            server.models = garbage
            with pytest.raises(EndpointFailed, match="expected a completion"):
                ask(server.url)
        assert server.bodies == []


def test_a_model_with_a_name_is_asked_whatever_is_listed(writing):
    with serving(writing, models=status(500)) as server:  # as `transformers serve` answers without a cache folder
        assert len(ask(server.url, 1, model="planted")) == 2
        with pytest.raises(EndpointFailed, match=r"status 404 \(no model plantd\); expected a base address"):
            ask(server.url, model="plantd")
        server.models = None
        with pytest.raises(UnknownName, match="did you mean 'planted'"):
            ask(server.url, model="plantd")
        assert writer_at(server.url, model="/somewhere/else/planted/").describe()["model"] == "planted"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "127.0.0.1:8000"}, "expected an address such as"),
        ({"url": "ftp://here/v1"}, "expected an address such as"),
        ({"url": "http://me:word@here/v1"}, "holds a user name or password"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"timeout": 0}, "timeout is 0"),
        ({"form": "chatty"}, "did you mean 'chat'"),
        ({"sampling": type(SAMPLING)(top_k=5)}, "knows no top_k"),
    ],
)
def test_settings_that_cannot_be_meant(settings, said):
    with pytest.raises(InputError, match=said) as caught:
        writer_at(**({"url": "http://127.0.0.1:1/v1"} | settings))
    assert "word@" not in str(caught.value)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingData, match=r"pip install 'detox-lm\[endpoint\]'"):
        writer_at("http://127.0.0.1:1/v1")


def test_the_record_says_nothing_of_address_or_key(writing, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret")
    with serving(writing) as server:
        described = str(writer_at(server.url).describe())
    assert "127.0.0.1" not in described
    assert "a-secret" not in described
