"""An OpenAI-compatible server on 127.0.0.1 around a model of detox: real sockets, and faults on demand."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from detox.models import Sampling, generate

HTML = (200, {"Content-Type": "text/html"}, b"<html><body>Welcome to this router</body></html>")


def status(code, message="no", headers=None):
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return code, {"Content-Type": "application/json", **(headers or {})}, body


def answer(value, code=200):
    return code, {"Content-Type": "application/json"}, value if isinstance(value, bytes) else json.dumps(value).encode()


@contextmanager
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
    server = _Server(("127.0.0.1", port), _Handler)
    server.lm, server.fault, server.delay, server.most_choices, server.models = lm, fault, delay, most_choices, models
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    block_on_close = False

    def __init__(self, *args):
        super().__init__(*args)
        self.bodies, self.over, self.lock = [], threading.Event(), threading.Lock()
        self.under_way = self.most_under_way = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        pass  # a client that was killed hangs up


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        if self.path == "/v1/models":
            self._send(self.server.models or answer({"object": "list", "data": [{"id": "planted", "object": "model"}]}))
        else:
            self._send(status(404, "nothing here"))

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
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
            self._send(sent or self._complete(body))
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

    def _send(self, sent):
        code, headers, data = sent
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
