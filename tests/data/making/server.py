"""An OpenAI-compatible server on 127.0.0.1 around a model of detox: real sockets, and faults on demand."""

from __future__ import annotations

import json
import time

from detox.models import Sampling, generate
from tests import loopback

HTML = (200, {"Content-Type": "text/html"}, b"<html><body>Welcome to this router</body></html>")


def status(code, message="no", headers=None):
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return code, headers or {}, body


def answer(value, code=200):
    return code, {}, value if isinstance(value, bytes) else json.dumps(value).encode()


def serving(lm, *, fault=None, models=None, delay=0.0, most_choices=None, port=0):
    """Serve `lm` as "planted".

    Args:
        lm: what writes.
        fault: called with the number of the completion request (from 0) and its body; what it returns is sent instead of a
            completion, None for none, "silence" for no answer at all.
        models: what is sent when asked for the models, instead of "planted".
        delay: seconds before each completion.
        most_choices: how many texts are given at once, whatever `n` is.
        port: 0 for any that is free.
    """
    return loopback.serving(
        _Handler, "/v1", port=port, lm=lm, fault=fault, delay=delay, most_choices=most_choices, models=models, under_way=0,
        most_under_way=0,
    )  # fmt: skip


class _Handler(loopback.Handler):
    def get(self):
        if self.path == "/v1/models":
            self.send(self.server.models or answer({"object": "list", "data": [{"id": "planted", "object": "model"}]}))
        else:
            self.send(status(404, "nothing here"))

    def post(self, body):
        server = self.server
        with server.lock:
            number = len(server.bodies)
            server.bodies.append({**body, "key": self.headers["Authorization"]})
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            sent = server.fault(number, body) if server.fault else None
            if body["model"] != "planted":
                sent = status(404, f"no model {body['model']}")
            if sent == "silence":
                server.over.wait(60)
                return
            time.sleep(server.delay)
            self.send(sent or self._complete(body))
        finally:
            with server.lock:
                server.under_way -= 1

    def _complete(self, body):
        chat = self.path.endswith("/chat/completions")
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        sampling = Sampling(
            max_new_tokens=body["max_tokens"], temperature=body["temperature"], top_p=body["top_p"], seed=body["seed"],
            num_return_sequences=min(body["n"], self.server.most_choices or body["n"]),
        )  # fmt: skip
        with self.server.lock:
            written = generate(self.server.lm, [prompt], sampling)[0]
        choices = []
        for index, one in enumerate(written):
            text = {"message": {"role": "assistant", "content": one.text}} if chat else {"text": one.text}
            reason = "stop" if one.finish_reason == "eos" else "length"
            choices.append({"index": index, "finish_reason": reason, "logprobs": None, **text})
        kind = "chat.completion" if chat else "text_completion"
        return answer({"id": "1", "object": kind, "created": 0, "model": "planted", "choices": choices})
