"""The keys of an issuer, fetched from a real server over https."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from issuer import Issuer, certificate

from workbench.errors import UnavailableError
from workbench.identities import fetching
from workbench.identities.keys import RemoteKeys, remote_keys


@pytest.fixture
def issuer():
    return Issuer()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, headers, body = self.server.answers[self.path]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def https(tmp_path, monkeypatch):
    """A server with a certificate that this process trusts."""
    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answers = {}
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_keys_are_fetched_over_https_without_redirects_and_up_to_a_size(https, issuer):
    base = f"https://localhost:{https.server_port}"
    https.answers = {
        "/jwks": (200, {"Content-Type": "application/json"}, issuer.jwks()),
        "/moved": (302, {"Location": f"{base}/jwks"}, b""),
        "/gone": (404, {}, b""),
        "/large": (200, {}, b" " * 2_000_000),
    }
    assert remote_keys(f"{base}/jwks").find("k1", "ES256")
    assert remote_keys(f"{base}/jwks") is remote_keys(f"{base}/jwks"), "the workspaces of a process share it"
    for path, said in (("moved", "status 302"), ("gone", "status 404"), ("large", "more than")):
        with pytest.raises(UnavailableError, match=said) as caught:
            RemoteKeys(f"{base}/{path}").find("k1", "ES256")
        assert f"curl --fail {base}/{path}" in caught.value.hint


def test_a_server_that_this_machine_does_not_trust_is_not_believed(https, issuer, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    https.answers = {"/jwks": (200, {}, issuer.jwks())}
    with pytest.raises(UnavailableError, match="certificate"):
        fetching.fetched(f"https://localhost:{https.server_port}/jwks", most_bytes=1_000)
