"""Real receivers of alerts: an HTTP server for webhook, Slack and Alertmanager, and a mail server with STARTTLS."""

from __future__ import annotations

import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest


class Hooks:
    """`got` holds (path, headers, body) of every POST. While `broken` it answers 503."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.refused = 0
        self.broken = False
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:  # whoever sent it died meanwhile, and will send it again
                    self.close_connection = True
                    return
                if hooks.broken:
                    hooks.refused += 1
                else:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    hooks.got.append((self.path, headers, body))
                self.send_response(503 if hooks.broken else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def bodies(self, path: str) -> list[Any]:
        return [json.loads(body) for at, _, body in self.got if at == path]

    def alerts(self, path: str = "/hook") -> list[dict[str, Any]]:
        """Of all webhooks, in order."""
        return [alert for body in self.bodies(path) for alert in body["data"]["alerts"]]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Mails:
    """An SMTP server on localhost that asks for STARTTLS and a login. `got` holds the mails."""

    def __init__(self, folder: Path) -> None:
        self.got: list[EmailMessage] = []
        self.logins: list[str] = []
        self.certificate = folder / "mail.crt"
        key = folder / "mail.key"
        openssl = shutil.which("openssl") or pytest.fail("The mail test needs openssl.")
        command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(self.certificate)]
        subprocess.run(command, check=True, capture_output=True)
        secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secure.load_cert_chain(self.certificate, key)
        mails = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                mails._talk(self.request, secure)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.address = f"localhost:{self._server.server_address[1]}"

    def _talk(self, plain: socket.socket, secure: ssl.SSLContext) -> None:
        connection, private = plain, False
        lines = connection.makefile("rb")
        connection.sendall(b"220 mail\r\n")
        while line := lines.readline():
            verb = line.split()[0].upper().decode()
            if verb == "EHLO":
                connection.sendall(b"250-mail\r\n250 AUTH PLAIN\r\n" if private else b"250-mail\r\n250 STARTTLS\r\n")
            elif verb == "STARTTLS":
                connection.sendall(b"220 go on\r\n")
                connection, private = secure.wrap_socket(connection, server_side=True), True
                lines = connection.makefile("rb")
            elif verb == "AUTH" and private:
                self.logins.append(line.decode().split()[-1])
                connection.sendall(b"235 welcome\r\n")
            elif verb == "DATA" and private:
                connection.sendall(b"354 tell\r\n")
                text = b"".join(iter(lines.readline, b".\r\n"))
                message = message_from_bytes(text, policy=policy.default)
                self.got.append(message)  # type: ignore[arg-type]  # the default policy makes EmailMessage
                connection.sendall(b"250 kept\r\n")
            elif verb == "QUIT":
                connection.sendall(b"221 bye\r\n")
                break
            else:
                connection.sendall(b"250 good\r\n" if private else b"530 STARTTLS first\r\n")
        lines.close()
        connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
