"""The little of GitHub's REST API that comments need, on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Comments:
    """Comments of one pull request, and the requests that made them."""

    def __init__(self, held: list[str], refuse: int = 0) -> None:
        self.held: list[dict[str, Any]] = [{"id": number, "body": body} for number, body in enumerate(held, 1)]
        self.refuse = refuse
        self.calls: list[str] = []
        self.url = ""


@contextmanager
def serve(comments: Comments) -> Iterator[Comments]:
    """Answer on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, document: Any, status: int = 200) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def _body(self) -> dict[str, Any]:
            assert self.headers["Authorization"] == "Bearer secret"
            found: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            return found

        def do_GET(self) -> None:
            comments.calls.append(f"GET {self.path}")
            page = int(self.path.rpartition("page=")[2])
            self._answer(comments.held[(page - 1) * 100 : page * 100])

        def do_POST(self) -> None:
            comments.calls.append(f"POST {self.path}")
            if comments.refuse:
                self._answer({}, comments.refuse)
                return
            comments.held.append({"id": len(comments.held) + 1, "body": self._body()["body"]})
            self._answer(comments.held[-1], 201)

        def do_PATCH(self) -> None:
            comments.calls.append(f"PATCH {self.path}")
            comments.held[int(self.path.rpartition("/")[2]) - 1]["body"] = self._body()["body"]
            self._answer({})

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    comments.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield comments
    finally:
        server.shutdown()
        server.server_close()
