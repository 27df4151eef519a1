"""A backend is offered where its own client would find it."""

import os
import socket
from pathlib import Path

import pytest

from sandbox.available import answers, available_backends, docker_address, has_cluster
from sandbox.base import BACKENDS


def test_only_backends_that_exist_are_offered() -> None:
    assert set(available_backends(os.environ)) <= BACKENDS.keys()


def test_an_engine_is_where_its_clients_look() -> None:
    assert docker_address({}) == "unix:///var/run/docker.sock"
    assert docker_address({"DOCKER_HOST": "tcp://engine:2375"}) == "tcp://engine:2375"


def test_a_socket_answers_only_while_somebody_listens(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert not answers(f"unix://{path}")
        server.listen()
        assert answers(f"unix://{path}")
    assert not answers(f"unix://{path}")
    assert not answers(f"unix://{tmp_path}/absent.sock")


def test_an_address_over_tcp_answers_only_while_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert answers(address)
    assert not answers(address)


def test_a_cluster_is_there_when_one_of_its_files_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "config.yaml"
    assert not has_cluster({"KUBECONFIG": f"{tmp_path}/absent:{config}"})
    config.touch()
    assert has_cluster({"KUBECONFIG": f"{tmp_path}/absent:{config}"})
    assert not has_cluster({})
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").touch()
    assert has_cluster({})


def test_what_the_administrator_says_goes_before_where_clients_look(tmp_path: Path) -> None:
    options, cluster = tmp_path / "options.toml", tmp_path / "cluster.yaml"
    socket_path = tmp_path / "engine.sock"
    options.write_text(
        f'[docker]\nbase_url = "unix://{socket_path}"\n[kubernetes]\nkubeconfig = "{cluster}"\n'
    )
    environ = {
        "SANDBOX_OPTIONS": str(options),
        "DOCKER_HOST": f"unix://{tmp_path}/absent.sock",
        "KUBECONFIG": str(options),
    }
    assert not {"docker", "kubernetes"} & set(available_backends(environ))
    cluster.touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(socket_path))
        server.listen()
        assert {"docker", "kubernetes"} <= set(available_backends(environ))
    options.write_text("nonsense")
    assert "docker" not in available_backends(environ)
