"""Which base commits are kept."""

from dataclasses import replace

from sandbox.base import SandboxSpec
from sandbox.bases import Bases
from sandbox.snapshot import Base


def test_bases_are_kept_to_a_number_of_bytes_and_the_newest_always(spec: SandboxSpec) -> None:
    built: list[str] = []

    def build(spec: SandboxSpec) -> Base:
        built.append(spec.docker_image)
        return Base(testbed=bytes(int(spec.docker_image)), git=b"", hidden=b"")

    bases = Bases(build, max_bytes=100)

    def asked(size: int) -> bool:
        """Whether it had to be built."""
        before = len(built)
        assert len(bases.of(replace(spec, docker_image=str(size))).testbed) == size
        return len(built) > before

    assert [asked(size) for size in (40, 50, 40, 50)] == [True, True, False, False]
    assert asked(30), "40 goes"
    assert [asked(size) for size in (30, 50)] == [False, False]
    assert asked(200), "all others go"
    assert not asked(200)
    assert [asked(size) for size in (40, 50)] == [True, True]
    assert not asked(40)
