"""`python -m benchmarks.rex_episodes KIND IMAGE NUM AT_ONCE OUT`: time episodes in SWE-ReX's sandboxes, local or docker.

Runs in the environment of the compared packages. A session is started once an episode and every command runs in it, as
SWE-ReX is meant to be used; nothing is graded, for SWE-ReX does not. Its containers get its server from this environment,
mounted read-only, so that no start installs or downloads anything.
"""

import asyncio
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from swerex.deployment.docker import DockerDeployment
from swerex.deployment.local import LocalDeployment
from swerex.runtime.abstract import BashAction, CreateBashSessionRequest

from benchmarks.episodes import COMMANDS, FILES, Measured

START_TIMEOUT_S = 300.0
COMMAND_TIMEOUT_S = 60.0
NO_STALE_CODE = "PYTHONDONTWRITEBYTECODE=1"
"""As in our sandboxes: compiled code of a file that is edited within the second would be taken for the edited file's."""


def main() -> int:
    kind, image, num, at_once, out = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        new = LocalDeployment if kind == "local" else docker_deployment(image, Path(folder))
        measured = measure(new, int(num), int(at_once))
    measured.save(Path(out))
    return 0


def measure(new: Callable[[], Any], num: int, at_once: int) -> Measured:
    """Each episode in a thread with an event loop of its own, as SWE-agent does: SWE-ReX sleeps on the loop it starts on."""
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as threads:
        episodes = list(threads.map(lambda _: asyncio.run(end_of_episode(new())), range(num)))
    ended = [episode for episode in episodes if isinstance(episode, Episode)]
    return Measured(
        at_once=at_once,
        whole_s=max(episode.ended for episode in ended) - began,
        start_s=tuple(episode.start_s for episode in ended),
        exec_s=tuple(seconds for episode in ended for seconds in episode.exec_s),
        grades=False,
        failed=tuple(episode for episode in episodes if isinstance(episode, str)),
    )


class Episode(NamedTuple):
    """One that ended well."""

    start_s: float
    exec_s: list[float]
    ended: float
    """On the clock of time.perf_counter."""


async def end_of_episode(sandbox: Any) -> Episode | str:
    """The episode, or why it failed: some of SWE-ReX's hang when many run at once."""
    try:
        return await run_episode(sandbox)
    except Exception as error:  # whatever it is, it is SWE-ReX's end of this episode
        return f"{type(error).__name__}: {error}"[:200]


def docker_deployment(image: str, folder: Path) -> Callable[[], Any]:
    """Containers of `image` with the server mounted; `folder` receives the command that starts it."""
    server = folder / "swerex-remote"
    server.write_text(
        '#!/bin/sh\nPYTHONPATH=/opt/swe-rex exec /opt/python/bin/python3 -m swerex.server "$@"\n'
    )
    server.chmod(0o755)
    packages = sysconfig.get_path("purelib")
    mounts = [f"{packages}:/opt/swe-rex:ro", f"{server}:/usr/local/bin/swerex-remote:ro"]
    arguments = [word for mount in mounts for word in ("-v", mount)]
    arguments += ["-e", "SWE_REX_LOG_STREAM_LEVEL"]
    return partial(
        DockerDeployment,
        image=image,
        pull="never",
        docker_args=arguments,
        startup_timeout=START_TIMEOUT_S,
    )


async def run_episode(sandbox: Any) -> Episode:
    """Start, commands, stop. Raises RuntimeError when a command fails, and what SWE-ReX raises."""
    began = time.perf_counter()
    await sandbox.start()
    try:
        await sandbox.runtime.create_session(
            CreateBashSessionRequest(startup_timeout=START_TIMEOUT_S)
        )
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            await run(sandbox, f"export {NO_STALE_CODE} && mkdir -p {folder} && cd {folder}")
            for name, text in FILES.items():
                await run(sandbox, f"printf %s '{text}' > {name}")
            execs = []
            for command in COMMANDS:
                sent = time.perf_counter()
                await run(sandbox, command)
                execs.append(time.perf_counter() - sent)
    finally:
        await sandbox.stop()
    return Episode(started - began, execs, time.perf_counter())


async def run(sandbox: Any, command: str) -> None:
    action = BashAction(command=command, timeout=COMMAND_TIMEOUT_S, check="silent")
    async with asyncio.timeout(COMMAND_TIMEOUT_S + 5):
        observation = await sandbox.runtime.run_in_session(action)
    if observation.exit_code:
        raise RuntimeError(f"{command}: exit code {observation.exit_code}: {observation.output}")


if __name__ == "__main__":
    sys.exit(main())
