"""A loopback proxy before an API server that cuts connections on command: a stand-in for a network that does.

It passes bytes and knows nothing of what they mean; TLS goes through it.
"""

import selectors
import socket
import threading
from urllib.parse import urlsplit


class CuttingProxy:
    """Listens at `port`; `cut_newest` closes the connection that was opened last, without a word."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._server = (str(parts.hostname), parts.port or 443)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_newest(self) -> None:
        client, _ = self._pairs.pop()
        client.shutdown(socket.SHUT_RDWR)  # its thread closes both ends

    def close(self) -> None:
        self._listener.close()
        while self._pairs:
            self.cut_newest()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            pair = (client, socket.create_connection(self._server))
            self._pairs.append(pair)
            threading.Thread(target=self._pass, args=(pair,), daemon=True).start()

    def _pass(self, pair: tuple[socket.socket, socket.socket]) -> None:
        other = {pair[0]: pair[1], pair[1]: pair[0]}
        with selectors.DefaultSelector() as selector, pair[0], pair[1]:
            for end in pair:
                selector.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    try:
                        data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                        other[key.fileobj].sendall(data)  # type: ignore[index]
                    except OSError:
                        data = b""
                    if not data:
                        if pair in self._pairs:
                            self._pairs.remove(pair)
                        return
