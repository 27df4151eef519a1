"""Calls to a Kubernetes API server: plain dicts in and out, one client a thread, so many a second, back-off where a
repeat does no harm.

Over PyPI's `kubernetes`, of which it uses the configuration and the HTTP client but not the models: reading
thousands of pods into objects is what limits that client. Commands in pods do not go through here.
"""

import json
import logging
import math
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import (
    KUBE_CONFIG_DEFAULT_LOCATION,
    ConfigException,
    load_incluster_config,
    load_kube_config,
)
from urllib3.exceptions import HTTPError

from sandbox.errors import SandboxError
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.kubernetes.pace import Pace

log = logging.getLogger(__name__)

_REPEATED = {409, 429, 500, 503}
"""Statuses of a server that is busy, restarting or settling a conflict."""
_FORBIDDEN = 403
_SETTLING_S = 60.0
"""A server that has come back refuses everybody until it has read who may do what; for as long a refusal is repeated."""
_ATTEMPTS = 6
_FIRST_PAUSE_S = 0.25
_READ_SILENCE_S = 90.0
"""A watch sends a bookmark a minute; one silent for longer is a dead connection."""

Json = dict[str, Any]


class ApiError(SandboxError):
    """The API server refused a call, or did not answer. `status` is 0 when it did not."""

    def __init__(self, what: str, status: int, message: str) -> None:
        super().__init__(f"{what}: {status or 'no answer'}: {message}")
        self.status, self.message = status, message

    @property
    def exists(self) -> bool:
        """An object of that name is there. Other conflicts (409) are of two writers at once, say of a quota, and pass."""
        return self.status == 409 and "already exists" in self.message


class Api:
    """One API server and namespace; thread-safe."""

    def __init__(self, options: KubernetesOptions) -> None:
        self._options = options
        self._local = threading.local()
        self._pace = Pace(options.max_requests_per_s)
        self.configuration = self._load()
        self.namespace = options.namespace
        self._silent_at = -math.inf

    def _load(self) -> Configuration:
        configuration = Configuration()
        # The HTTP client's own three repeats would each wait for the whole timeout; `call` repeats.
        configuration.retries = False
        path = self._options.kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION
        try:
            if self._options.kubeconfig or any(
                Path(one).expanduser().exists() for one in path.split(os.pathsep)
            ):
                load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=path,
                    context=self._options.context or None,
                    client_configuration=configuration,
                )
            else:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError) as error:
            raise ApiError(f"kubeconfig {path}", 0, str(error)) from error
        return configuration

    def client(self) -> ApiClient:
        """This thread's own client."""
        if not hasattr(self._local, "client"):
            self._local.client = ApiClient(self.configuration)
        client: ApiClient = self._local.client
        return client

    def headers(self, method: str = "GET") -> dict[str, str]:
        """With fresh credentials."""
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": content}
        bearer = self.configuration.auth_settings().get("BearerToken")
        if bearer and bearer["value"]:
            headers["Authorization"] = bearer["value"]
        return headers

    def path(self, kind: str, name: str = "", *, group: str = "api/v1") -> str:
        """Of a namespaced object or collection."""
        path = f"/{group}/namespaces/{quote(self.namespace)}/{kind}"
        return f"{path}/{quote(name)}" if name else path

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
    ) -> Json:
        """One call, repeated with growing pauses while the server is busy or away.

        A creation whose first answer was lost finds its own object there: that is success, since names are random.
        Raises ApiError.
        """
        for attempt in range(_ATTEMPTS):
            try:
                return self._once(method, path, query, body)
            except ApiError as error:
                if error.exists and method == "POST" and attempt:
                    return self._once("GET", f"{path}/{_name_of(body)}", None, None)
                if attempt == _ATTEMPTS - 1 or error.exists or not self._passes(error.status):
                    raise
                log.warning("%s %s: attempt %d: %s", method, path, attempt + 1, error)
            time.sleep(_FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _unanswered(self, what: str, error: Exception) -> ApiError:
        self._silent_at = time.monotonic()
        return ApiError(what, 0, str(error))

    def _passes(self, status: int) -> bool:
        """Whether a refusal may be over in a moment; a status of 0 is no answer."""
        settling = time.monotonic() < self._silent_at + _SETTLING_S
        return not status or status in _REPEATED or (status == _FORBIDDEN and settling)

    def _once(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Json | None
    ) -> Json:
        response = self._send(method, path, query, body, self._options.request_timeout_s)
        try:
            data = response.read()
        except HTTPError as error:
            raise self._unanswered(f"{method} {path}", error) from error
        if response.status >= 300:
            raise ApiError(f"{method} {path}", response.status, _message(data))
        found: Json = json.loads(data)
        return found

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Json | None,
        timeout: Any,
    ) -> Any:
        self._pace.wait()
        url = f"{self.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            return (
                self.client()
                .call_api(method, url, self.headers(method), body=body, _request_timeout=timeout)
                .response
            )
        except (HTTPError, ApiException, OSError) as error:
            raise self._unanswered(f"{method} {path}", error) from error

    def answers(self, within_s: float) -> bool:
        """Whether the server says anything, if only that it refuses."""
        try:
            self._send("GET", "/version", None, None, within_s).drain_conn()
        except ApiError:
            return False
        return True

    def watch(self, path: str, query: Mapping[str, str]) -> Iterator[Json]:
        """The events of one watch until the server or the network ends it. Raises ApiError."""
        query = {**query, "watch": "true", "allowWatchBookmarks": "true"}
        timeout = (self._options.request_timeout_s, _READ_SILENCE_S)
        response = self._send("GET", path, query, None, timeout)
        try:
            if response.status >= 300:
                raise ApiError(f"watch {path}", response.status, _message(response.read()))
            rest = b""
            for chunk in response.stream(1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line)
        except (HTTPError, OSError) as error:
            raise self._unanswered(f"watch {path}", error) from error
        finally:
            response.close()


def _name_of(body: Json | None) -> str:
    return str(body["metadata"]["name"]) if body else ""


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data[:300].decode(errors="replace")
