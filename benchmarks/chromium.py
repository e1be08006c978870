"""A headless Chromium over its DevTools protocol: enough to load a page, run scripts in it and take pictures.

Only the standard library: the protocol is JSON in WebSocket frames (RFC 6455) on a socket of this machine.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
          "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
          "--disable-dev-shm-usage", "--remote-debugging-port=0")  # fmt: skip


def find_chromium() -> str | None:
    """The program: $CHROMIUM, or one of the usual names on the path."""
    wanted = os.environ.get("CHROMIUM")
    return wanted or next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def chromium(program: str) -> Iterator[Browser]:
    """A browser with a profile of its own, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield Browser(_port(Path(profile), process))
        finally:
            process.terminate()
            process.wait(30)


def _port(profile: Path, process: subprocess.Popen[bytes]) -> int:
    """Chromium writes the port that it took into its profile."""
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"Chromium ended with status {process.returncode}")
        file = profile / "DevToolsActivePort"
        if file.is_file() and "\n" in (text := file.read_text()):
            return int(text.split()[0])
        time.sleep(0.1)
    raise RuntimeError("Chromium opened no port for its DevTools within 60 seconds")


class Browser:
    """One tab, and what it complained about.

    Attributes:
        complaints: Errors and warnings of the console, exceptions of scripts, and everything that was requested but
            the page itself.
    """

    def __init__(self, port: int) -> None:
        with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            pages = json.load(answer)
        self._socket = _WebSocket(next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"))
        self._count = 0
        self._events: list[str] = []
        self._address = ""
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """One command; its result."""
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.receive())
            if message.get("id") == self._count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self._note(message)

    def open(self, page: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Load a file and wait until its scripts have run."""
        self._address = page.resolve().as_uri()
        self._events.clear()
        self.complaints.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)  # fmt: skip
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Page.navigate", url=self._address)
        while "Page.loadEventFired" not in self._events:
            self._note(json.loads(self._socket.receive()))

    def run(self, script: str) -> Any:
        """The value of an expression in the page; what it throws is raised."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", "exception"))
        return found["result"].get("value")

    def picture(self, file: Path, *, area: tuple[float, float, float, float] | None = None) -> None:
        """A PNG of the window, or of x, y, width, height of the page."""
        options: dict[str, Any] = {"format": "png"}
        if area is not None:
            x, y, width, height = area
            clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
            options |= {"clip": clip, "captureBeyondViewport": True}
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **options)["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        method, found = message.get("method", ""), message.get("params", {})
        self._events.append(method)
        if method == "Runtime.consoleAPICalled" and found["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(item.get("value", "")) for item in found["args"]))
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(found["exceptionDetails"]))
        elif method == "Log.entryAdded" and found["entry"]["level"] in ("error", "warning"):
            self.complaints.append(found["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            address = found["request"]["url"].partition("#")[0]
            if address not in (self._address, "about:blank"):
                self.complaints.append(f"requested {address}")


class _WebSocket:
    """Text frames of RFC 6455, as a client."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._socket.recv(4096)
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if b" 101 " not in head.splitlines()[0]:
            raise RuntimeError(f"no WebSocket: {head!r}")

    def send(self, text: str) -> None:
        content, mask = text.encode(), os.urandom(4)
        size = len(content)
        head = bytes([0x81, 0x80 | size]) if size < 126 else bytes([0x81, 0xFE]) + struct.pack(">H", size) \
            if size < 65536 else bytes([0x81, 0xFF]) + struct.pack(">Q", size)  # fmt: skip
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(content))
        self._socket.sendall(head + mask + masked)

    def receive(self) -> str:
        """The next message, put together from its frames."""
        content = b""
        while True:
            first, second = self._read(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack(">H", self._read(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self._read(8))
            piece = self._read(size)
            if first & 0x0F in (0, 1):  # a text or its continuation; pings need no answer here
                content += piece
                if first & 0x80:
                    return content.decode()

    def _read(self, count: int) -> bytes:
        pieces, missing = [self._buffer[:count]], count - len(self._buffer[:count])
        self._buffer = self._buffer[count:]
        while missing:
            piece = self._socket.recv(min(missing, 1 << 20))
            if not piece:
                raise RuntimeError("Chromium closed the connection")
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)
