"""A Hugging Face hub on this machine with one checkpoint, its faults, and the net it is for.

As there, files are redirected to a store at another address, which must not see the user's token.
Run as a script it is the command line with this net's checkpoint as the catalogue.
"""

from contextlib import contextmanager
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import sys
import threading

import numpy as np

from longrecon_ros.backbones.base import Backbone, BackboneSpec, WeightsFile
from longrecon_ros.cli import main as command_line, weights
from longrecon_ros.errors import WeightsError

TINY = WeightsFile('tiny', 'someone/Tiny', 'sub/model.safetensors', 12_000_000,
                   'CC BY-NC 4.0 (non-commercial)', 'BSD-3-Clause')
CLOSED = WeightsFile('closed', 'someone/Closed', 'model.pt', 5_030_000_000, 'Other', 'Apache-2.0',
                     is_gated=True)
PATIENCE_S = 20


class TinyBackbone(Backbone):
    """A net with two tensors."""

    spec = BackboneSpec(name='tinynet', patch=1, max_pixels=None, gauge='window', scale='relative',
                        feed='all', align='sim3', weights=(TINY, CLOSED))

    @classmethod
    def check_weights(cls, path: Path) -> None:
        """Compare the names in the file with those of the net."""
        from safetensors import safe_open
        with safe_open(str(path), 'numpy') as tensors:
            names = set(tensors.keys())
        if names != {'a', 'b'}:
            raise WeightsError(f'{path}: not the tensors a, b of {cls.spec.name}: {sorted(names)}')

    def step(self, state, window):
        """Predict nothing: no test runs it."""
        raise NotImplementedError


def catalogue():
    """Return what `longrecon weights` knows in these tests."""
    return tuple(weights.Checkpoint(TinyBackbone, file) for file in TinyBackbone.spec.weights)


def checkpoint(seed: int = 0) -> bytes:
    """Return a checkpoint of the net: more than a piece of those in which it is downloaded."""
    from safetensors.numpy import save
    values = np.random.default_rng(seed).random(1_500_000)
    return save({'a': values[:10], 'b': values[10:]})


class Hub:
    """What the server holds, what it does wrong, and what it was asked."""

    def __init__(self, content: bytes):
        """Hold one file."""
        self.publish(content)
        self.url = self.store_url = ''
        self.asked = []
        """(method, path, Range or None, Authorization or None), also those to the store."""
        self.n_sent = 0
        """Bytes of the file that were sent."""
        self.refusal = None
        """Status and X-Error-Code of all answers."""
        self.refusal_at_store = self.refusal_after_drop = None
        self.drop_after = []
        """Bytes after which the connection breaks, for as many downloads as there are items."""
        self.stall_after = None
        """Bytes after which nothing comes until `go_on`."""
        self.sent = None
        """What is sent in place of the file."""
        self.is_hub = True
        """Answers have the headers of a hub."""
        self.stalled, self.go_on, self.gate = (threading.Event() for _ in range(3))
        self.gate.set()

    def publish(self, content: bytes) -> None:
        """Hold another file."""
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.size = len(content)
        self.commit = hashlib.sha1(content[-999:]).hexdigest()

    @property
    def downloads(self) -> list:
        """The Range of each request for the bytes of the file."""
        return [part for method, path, part, _ in self.asked
                if method == 'GET' and path.startswith('/store/')]


@contextmanager
def serve(content: bytes):
    """Yield a running `Hub`."""
    hub = Hub(content)
    servers = [_Server(('127.0.0.1', 0), _handler(hub)) for _ in range(2)]
    hub.url, hub.store_url = (f'http://127.0.0.1:{server.server_port}' for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.gate.set()
        hub.go_on.set()
        for server, thread in zip(servers, threads):
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # a client that is killed keeps its connection's thread waiting
    block_on_close = False

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _handler(hub: Hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self._answer()

        def do_GET(self):
            self._answer()

        def _answer(self):
            hub.gate.wait(PATIENCE_S)
            hub.asked.append((self.command, self.path, self.headers.get('Range'),
                              self.headers.get('Authorization')))
            is_store = self.path.startswith('/store/')
            refusal = hub.refusal_at_store if is_store else hub.refusal
            if refusal:
                status, code = refusal
                self._head(status, 0, {'X-Error-Code': code} if code else {})
            elif is_store:
                self._send_file()
            elif not hub.is_hub:
                self._head(200, 0, {})
            elif self.path not in [f'/{TINY.repository}/resolve/{revision}/{TINY.file}'
                                   for revision in ('main', hub.commit)]:
                self._head(404, 0, {'X-Error-Code': 'EntryNotFound'})
            else:
                self._head(302, 0, {
                    'X-Repo-Commit': hub.commit, 'X-Linked-Size': str(hub.size),
                    'X-Linked-ETag': f'"{hub.sha256}"', 'Accept-Ranges': 'bytes',
                    'Location': f'{hub.store_url}/store/{hub.sha256}?signature=secret'})

        def _send_file(self):
            content = hub.content if hub.sent is None else hub.sent
            part = self.headers.get('Range')
            first = int(part.removeprefix('bytes=').removesuffix('-')) if part else 0
            headers = {'Content-Range': f'bytes {first}-{len(content) - 1}/{len(content)}'}
            self._head(206 if part else 200, len(content) - first, headers if part else {})
            if hub.drop_after:
                self._write(content[first:first + hub.drop_after.pop(0)])
                hub.refusal_at_store = hub.refusal_after_drop
                self.close_connection = True
            elif hub.stall_after is not None:
                self._write(content[first:first + hub.stall_after])
                hub.stalled.set()
                hub.go_on.wait(PATIENCE_S)
                self.close_connection = True
            else:
                self._write(content[first:])

        def _head(self, status, n_bytes, headers):
            self.send_response(status)
            for name, value in {**headers, 'Content-Length': str(n_bytes)}.items():
                self.send_header(name, value)
            self.end_headers()

        def _write(self, content):
            self.wfile.write(content)
            hub.n_sent += len(content)

    return Handler


if __name__ == '__main__':
    weights.catalogue = catalogue
    sys.exit(command_line.main())
