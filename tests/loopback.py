"""A server on 127.0.0.1 for tests: real sockets, closed in the end whatever hangs on them."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Calls `get()` or `post(body)` of a subclass, which `send` (status, headers, bytes); says nothing on the terminal."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.get()

    def do_POST(self):
        self.post(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def send(self, sent):
        code, headers, data = sent
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    block_on_close = False

    def handle_error(self, request, client_address):
        pass  # a client that was killed hangs up


@contextmanager
def serving(handler, path, *, port=0, **attributes):
    """Serve.

    Args:
        handler: class of handlers.
        path: of the service; the server has its `url`.
        port: 0 for any that is free.
        attributes: of the server, beside `bodies` (a list), `lock`, and `over`, an event that is set in the end.
    """
    server = _Server(("127.0.0.1", port), handler)
    server.url = f"http://127.0.0.1:{server.server_address[1]}{path}"
    vars(server).update(bodies=[], lock=threading.Lock(), over=threading.Event(), **attributes)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
