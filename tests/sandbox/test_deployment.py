"""What an administrator says of the backends reaches them; what makes no sense is named."""

from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.base import SandboxSpec
from sandbox.deployment import configured_backend, options_of
from sandbox.errors import SandboxUnavailable


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "options.toml"
    monkeypatch.setenv("SANDBOX_OPTIONS", str(path))
    return path


def test_options_reach_their_backend(said: Path, spec: SandboxSpec, tmp_path: Path) -> None:
    said.write_text(f'[bubblewrap]\nunpacked = "{tmp_path}/images"\nstate = "{tmp_path}/state"\n')
    backend = configured_backend("bubblewrap")
    with pytest.raises(SandboxUnavailable, match=f"below {tmp_path}/images"):
        backend.create(replace(spec, docker_image="nobody/none:1", files={}))


def test_without_a_file_there_are_no_options() -> None:
    assert options_of({}) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[kubernetes]\nnamespce = 'x'\n", r"\[kubernetes\]: .*'namespce'"),
        ("[podman]\n", "'podman': name a table bubblewrap, docker, kubernetes"),
        ("kubernetes\n", "not readable as TOML"),
    ],
)
def test_what_makes_no_sense_is_named(said: Path, text: str, message: str) -> None:
    said.write_text(text)
    with pytest.raises(ValueError, match=message):
        configured_backend("kubernetes")


def test_a_file_that_is_not_there_is_named(said: Path) -> None:
    with pytest.raises(ValueError, match=f"{said}: not readable"):
        configured_backend("docker")
