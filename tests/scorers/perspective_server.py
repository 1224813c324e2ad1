"""A server on 127.0.0.1 that speaks Perspective's JSON: real sockets, and faults on demand."""

from __future__ import annotations

import json
import time

from tests import loopback


def error(code, message, kind=None, *, headers=None):
    """An error as the service gives it: a message that may quote the text, and details with a name."""
    details = (
        []
        if kind is None
        else [{"@type": "type.googleapis.com/google.commentanalyzer.v1alpha1.Error", "errorType": kind}]
    )
    if code == 400 and kind == "API_KEY_INVALID":
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": kind, "domain": "googleapis.com"}]
    body = {"error": {"code": code, "message": message, "status": "INVALID_ARGUMENT", "details": details}}
    return code, headers or {}, json.dumps(body).encode()


def scored(body, values):
    found = {
        name: {"summaryScore": {"value": values[name.lower()], "type": "PROBABILITY"}}
        for name in body["requestedAttributes"]
    }
    return 200, {}, json.dumps({"attributeScores": found, "languages": ["en"], "detectedLanguages": ["en"]}).encode()


def by_length(body):
    """Scores that the text decides: toxicity is a hundredth of its length."""
    value = min(1.0, len(body["comment"]["text"]) / 100)
    return scored(body, {name.lower(): value / (index + 1) for index, name in enumerate(body["requestedAttributes"])})


def serving(answer=by_length, *, key="a key"):
    """Serve.

    Args:
        answer: called with the body of a request, and the number of requests of the same text before it where it takes two; gives
            status, headers, bytes, or "silence" for no answer.
        key: any other is refused.
    """
    return loopback.serving(_Handler, "/v1alpha1/comments:analyze", answer=answer, key=key, times=[])


class _Handler(loopback.Handler):
    def post(self, body):
        server = self.server
        before = sum(one["comment"] == body["comment"] for one in server.bodies)
        server.bodies.append({**body, "path": self.path})
        server.times.append(time.monotonic())
        if self.headers["X-Goog-Api-Key"] != server.key:
            sent = error(400, "API key not valid. Please pass a valid API key.", "API_KEY_INVALID")
        elif server.answer.__code__.co_argcount == 2:
            sent = server.answer(body, before)
        else:
            sent = server.answer(body)
        if sent == "silence":
            server.over.wait(30)
            return
        self.send(sent)
