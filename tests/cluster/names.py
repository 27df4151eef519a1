"""The name service of the test node's pods: `python -m tests.cluster.names KUBECONFIG NETWORK_NAMESPACE ADDRESS`.

It answers for pods that a headless Service names, `HOST.SERVICE.NAMESPACE.svc.cluster.local`, by what the cluster says of them,
as the name service of a real cluster does, and knows nothing else. It listens in the network of the pods, where nothing else of
this process is.
"""

import ctypes
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox.kubernetes.api import Api, ApiError
from sandbox.kubernetes.options import KubernetesOptions

PORT = 53
DOMAIN = ["svc", "cluster", "local"]
HEADER_BYTES = 12
A = 1
ANSWER = 0x8180
"""Flags: a response, recursion desired and available."""
SERVER_FAILURE, NO_SUCH_NAME = 2, 3
QUESTION_AGAIN = b"\xc0\x0c"
"""The name of an answer: that of the question, which begins after the header (RFC 1035, 4.1.4)."""
OWN_NETWORK = Path("/proc/self/ns/net")
CLONE_NEWNET = 0x40000000  # linux/sched.h

Lookup = Callable[[Sequence[str]], Sequence[str]]
"""The labels of a name to its IPv4 addresses; none: there is no such name. Raises ApiError."""


def reply(query: bytes, lookup: Lookup) -> bytes:
    """The answer to one question, by RFC 1035."""
    labels, place = [], HEADER_BYTES
    while length := query[place]:
        labels.append(query[place + 1 : place + 1 + length].decode().lower())
        place += 1 + length
    end = place + 5
    kind = int.from_bytes(query[place + 1 : place + 3])
    try:
        found = lookup(labels)
        code = 0 if found else NO_SUCH_NAME
    except ApiError:
        found, code = [], SERVER_FAILURE
    told = found if kind == A else []
    numbers = (ANSWER | code, 1, len(told), 0, 0)
    header = query[:2] + b"".join(number.to_bytes(2) for number in numbers)
    return header + query[HEADER_BYTES:end] + b"".join(map(_record, told))


def _record(address: str) -> bytes:
    """Not to be kept: a run that is started again has the same names and other addresses."""
    numbers = [(A, 2), (1, 2), (0, 4), (4, 2)]
    fields = b"".join(number.to_bytes(size) for number, size in numbers)
    return QUESTION_AGAIN + fields + socket.inet_aton(address)


def in_cluster(api: Api) -> Lookup:
    def lookup(labels: Sequence[str]) -> Sequence[str]:
        if len(labels) != 3 + len(DOMAIN) or list(labels[3:]) != DOMAIN:
            return []
        host, service, namespace = labels[:3]
        try:
            found = api.call("GET", f"/api/v1/namespaces/{namespace}/endpoints/{service}")
        except ApiError as error:
            if error.status == 404:
                return []
            raise
        parts = found.get("subsets") or []
        addresses = [address for part in parts for address in part.get("addresses") or []]
        return [a["ip"] for a in addresses if a.get("hostname") == host]

    return lookup


def listen(namespace: Path, address: str) -> socket.socket:
    """A socket of another network namespace; this process stays in its own."""
    own = os.open(OWN_NETWORK, os.O_RDONLY)
    _enter(os.open(namespace, os.O_RDONLY))
    try:
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind((address, PORT))
    finally:
        _enter(own)
    return listener


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(namespace)


def main(kubeconfig: str, namespace: str, address: str) -> None:
    lookup = in_cluster(Api(KubernetesOptions(kubeconfig=kubeconfig)))
    listener = listen(Path(namespace), address)
    while True:
        query, asker = listener.recvfrom(1 << 12)
        listener.sendto(reply(query, lookup), asker)


if __name__ == "__main__":
    main(*sys.argv[1:])
