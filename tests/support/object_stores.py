"""Object stores on this machine: moto for S3, an emulator for Google Cloud Storage; and a line to them that fails.

Both keep objects in memory and know what run folders need, but for one thing: the emulator of Google's store lets two
processes create the same object. What needs that is tested with S3.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

BUCKET = "bucket"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "planted-user-5Q3",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-8Z1",
    "AWS_DEFAULT_REGION": "us-east-1",
}

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_OF_CONNECTION = ("content-length", "transfer-encoding", "connection", "date", "server")


@contextmanager
def s3_server() -> Iterator[str]:
    """Serve S3 with an empty bucket; yields the address."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def gcs_server() -> Iterator[str]:
    """Serve Google Cloud Storage with an empty bucket; yields the address."""
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET)
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


def s3_environment(address: str) -> dict[str, str]:
    """What leads the usual clients of S3 to a server of ours."""
    return {**CREDENTIALS, "AWS_ENDPOINT_URL": address, "AWS_EC2_METADATA_DISABLED": "true"}


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables of the environment for a while, and clients that have seen them."""
    from harness import paths

    before = dict(os.environ)
    os.environ.update(values)
    paths._client.cache_clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        paths._client.cache_clear()


class Throttle:
    """A server of S3 that refuses a share of the requests with 503 SlowDown, and passes the others on.

    ``share`` of 1 refuses all. The refused are counted in ``refused``.
    """

    def __init__(self, address: str, share: float, seed: int = 0) -> None:
        host, port = address.removeprefix("http://").split(":")
        rng, lock = random.Random(seed), threading.Lock()
        throttle = self
        self.refused = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with lock:
                    is_refused = rng.random() < share
                    throttle.refused += is_refused
                if is_refused:
                    self.answer(503, {"Content-Type": "application/xml"}, _SLOW_DOWN)
                    return
                line = HTTPConnection(host, int(port), timeout=30)
                with closing(line):
                    line.request(self.command, self.path, body, dict(self.headers))
                    response = line.getresponse()
                    self.answer(response.status, dict(response.getheaders()), response.read())

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815  http.server's names

            def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
                self.send_response_only(status)
                kept = {k: v for k, v in headers.items() if k.lower() not in _OF_CONNECTION}
                length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
                for key, value in {**kept, "Content-Length": length}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def open(self) -> Iterator[Throttle]:
        """Serve until the block ends."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


class BadLine:
    """A line to a server that waits, is cut and is dead, at random; ``badness`` is the probability per parcel.

    While it is ``down`` nobody gets through.
    """

    def __init__(self, address: str, badness: float = 0.0, seed: int = 0) -> None:
        host, port = address.removeprefix("http://").split(":")
        self._server = (host, int(port))
        self._badness, self._chance = badness, random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.is_down, self.cuts, self.waits = False, 0, 0
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @contextmanager
    def open(self) -> Iterator[BadLine]:
        """Carry connections until the block ends."""
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield self
        finally:
            self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                server = None if self.is_down else socket.create_connection(self._server)
            except OSError:
                server = None
            if server is None:
                client.close()
                continue
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with source, sink:
            self._carry_parcels(source, sink)
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)  # closing alone goes unnoticed while the other thread reads from it

    def _carry_parcels(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while parcel := source.recv(1 << 16):
                if self.is_down:
                    return
                if self._chance.random() < self._badness:
                    self.waits += 1
                    time.sleep(self._chance.uniform(0, 0.3))
                if self._chance.random() < self._badness:
                    self.cuts += 1
                    sink.sendall(parcel[: len(parcel) // 2])
                    return
                sink.sendall(parcel)
