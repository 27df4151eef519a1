"""Which addresses a webhook may reach: a user's URL must not make the workers call their own network.

The name is resolved once and the connection goes to the very address that was checked, so a name
that changes its mind in between leads nowhere else. Redirects are not followed, proxies not used.
"""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

import httpx
from django.conf import settings

TIMEOUT_S = 15.0
"""For everything from the connection to the answer's status."""
IPV4_IN_IPV6 = [
    IPv6Network("64:ff9b::/96"),
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("2002::/16"),
]
"""Translators and tunnels: an IPv4 address that others see is within."""


class RefusedError(Exception):
    """The URL may not be called; the message says why, and trying again is of no use."""


class Destination(NamedTuple):
    url: httpx.URL
    address: str


def resolve(url: str) -> Destination:
    """Raises RefusedError for a URL that may not be called, socket.gaierror for an unknown name."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise RefusedError(f"{url}: is no URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise RefusedError(f"{url}: use an https:// address")
    if parsed.userinfo:
        raise RefusedError("has a user name or password in it: the signature says who sends")
    port = parsed.port or {"http": 80, "https": 443}[parsed.scheme]
    found = socket.getaddrinfo(parsed.host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not settings.WEBHOOK_PRIVATE_ADDRESSES:
        for address in addresses:
            if not is_public(ip_address(address)):
                raise RefusedError(
                    f"{parsed.host} is {address}, which is not a public address; "
                    "an administrator may allow it: WEBHOOK_PRIVATE_ADDRESSES"
                )
    return Destination(parsed, addresses[0])


def is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if any(address in network for network in IPV4_IN_IPV6):
            return False
    return address.is_global and not address.is_multicast


def post(url: str, headers: dict[str, str], body: str) -> int:
    """Send it; the status of the answer, whose body is not read.

    Raises RefusedError, and OSError, httpx.HTTPError or TimeoutError when there is no answer.
    """
    return asyncio.run(_post(resolve(url), headers, body))


async def _post(destination: Destination, headers: dict[str, str], body: str) -> int:
    url, address = destination
    host = url.netloc.decode()
    async with (
        asyncio.timeout(TIMEOUT_S),
        httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client,
        client.stream(
            "POST",
            url.copy_with(host=address),
            content=body.encode(),
            headers={"host": host, "content-type": "application/json"} | headers,
            extensions={"sni_hostname": url.host},
        ) as response,
    ):
        return response.status_code
