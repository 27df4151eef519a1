"""How much room a patch needs: enough for a base of one file an object."""

import io
import tarfile
from pathlib import Path

import pytest

from sandbox.base import ExecResult, SandboxSpec
from sandbox.docker.options import SCRATCH, container_options
from sandbox.errors import End, SandboxDestroyed
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.kubernetes.pod import pod_body
from sandbox.snapshot import DIFF_SCRIPT, Base, Room, patch_of, room_for

NUM_OBJECTS = 20_000


@pytest.fixture(scope="module")
def git() -> bytes:
    """The archive of a repository whose objects are small files of their own, as `git add` leaves them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(256):
            folder = tarfile.TarInfo(f"./objects/{number:02x}")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
        for number in range(NUM_OBJECTS):
            member = tarfile.TarInfo(f"./objects/{number % 256:02x}/{number:038x}")
            member.size = 5000 if number % 2 else 1
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return buffer.getvalue()


def test_each_file_of_the_base_takes_whole_pages_and_an_inode(git: bytes) -> None:
    room = room_for(git)
    assert room.size_mib == 64 + -(-NUM_OBJECTS * 3 * 4096 // 2 >> 20)
    assert room.inodes == 5120 + 256 + NUM_OBJECTS
    assert room_for(b"") == Room(64, 5120)


def test_files_of_long_names_are_passed_by_whole(tmp_path: Path) -> None:
    """tar writes such a name as an entry of its own."""
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo("x" * 700)
        member.size = 1 << 20
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    assert room_for((tmp_path / "a.tar").read_bytes()) == Room(66, 5122)


def test_a_container_has_room_for_its_base(spec: SandboxSpec, git: bytes) -> None:
    room = room_for(git)
    small = container_options(spec, "1", Base(b"", b""))
    large = container_options(spec, "1", Base(b"", git))
    assert f"size={room.size_mib}m,nr_inodes={room.inodes}," in large["tmpfs"][SCRATCH]
    assert large["mem_limit"] - small["mem_limit"] == (room.size_mib - 64) << 20


def test_a_pod_has_room_for_its_base(spec: SandboxSpec, git: bytes) -> None:
    made = pod_body("p", spec, KubernetesOptions(), backend="b", owner_uid="u", git=git)["spec"]
    room = room_for(git)
    assert made["volumes"][1]["emptyDir"]["sizeLimit"] == f"{room.size_mib}Mi"
    memory = made["containers"][0]["resources"]["limits"]["memory"]
    assert memory == f"{spec.memory_mib + spec.disk_mib + room.size_mib}Mi"


def test_a_patch_for_which_there_is_no_time_once_the_base_stands_is_the_agents_fault() -> None:
    assert "\necho base stands >&2\n" in DIFF_SCRIPT
    late = ExecResult(
        stdout=b"", stderr=b"base stands\n", end=End.TIMEOUT, exit_code=None, duration_s=60
    )
    with pytest.raises(SandboxDestroyed):
        patch_of(late, "/testbed")
