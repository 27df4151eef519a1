"""The contract: the base commit, and the patch against it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandbox.base import Backend, Sandbox, SandboxSpec
from sandbox.errors import OUTCOME_OF_END, Outcome, SandboxDestroyed, SandboxGone, outcome_of
from tests.sandbox.contract import opened, sh


def test_an_untouched_tree_has_an_empty_diff(sandbox: Sandbox) -> None:
    sh(sandbox, "mkdir -p __pycache__; echo x > __pycache__/a.pyc; touch calc.py")
    assert sandbox.diff() == b""


def test_diff_holds_changed_new_deleted_and_binary_files(sandbox: Sandbox) -> None:
    sandbox.write("/testbed/new.bin", bytes(range(256)))
    sh(sandbox, "rm calc.py; mkdir d; echo 'a b' > 'd/with space.txt'; ln -s nowhere link")
    patch = sandbox.diff()
    for part in (b"deleted file", b"GIT binary patch", b"with space.txt", b"new file mode 120000"):
        assert part in patch


def test_a_patch_makes_the_same_tree_of_a_fresh_base(
    backend: Backend, sandbox: Sandbox, spec: SandboxSpec
) -> None:
    sandbox.write("/testbed/new.bin", bytes(range(256)))
    sh(
        sandbox,
        "echo y >> calc.py; mkdir d; printf 'no newline' > 'd/a b'; ln -s d link; chmod +x calc.py",
    )
    tree = "find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 "
    tree += """sh -c 'stat -c "%n %a" "$@"; sha256sum "$@"' sh"""
    with opened(backend, spec) as fresh:
        applied = fresh.exec(["git", "apply", "-"], stdin=sandbox.diff(), timeout_s=20)
        assert applied.ok, applied.stderr
        assert sh(fresh, tree).stdout == sh(sandbox, tree).stdout
        assert sh(fresh, "readlink link").stdout == b"d\n"


def test_diff_trusts_nothing_of_the_agents_git(sandbox: Sandbox) -> None:
    sh(
        sandbox,
        "echo 'x = 1' > calc.py; git add -A; git commit -qm hidden; "
        "printf '*.py filter=evil diff=evil -text\\n' > .gitattributes; "
        "git config filter.evil.clean 'touch /testbed/pwned; cat'; "
        "git config diff.evil.textconv 'touch /testbed/pwned'; "
        "git config core.fsmonitor 'touch /testbed/pwned'",
    )
    assert b"+x = 1" in sandbox.diff()
    sh(sandbox, "rm -rf .git")
    assert b"+x = 1" in sandbox.diff()
    assert sh(sandbox, "test -e pwned").exit_code == 1


def test_what_the_agent_has_committed_is_in_the_patch(sandbox: Sandbox) -> None:
    sh(
        sandbox,
        "echo x = 1 > calc.py; git add -A; git -c user.name=a -c user.email=a commit -qm done",
    )
    assert b"+x = 1" in sandbox.diff()


def test_a_mode_change_is_in_the_patch(sandbox: Sandbox) -> None:
    sh(sandbox, "chmod +x calc.py")
    assert b"new mode 100755" in sandbox.diff()


def test_a_link_is_in_the_patch_by_its_text_alone(sandbox: Sandbox) -> None:
    sh(sandbox, "ln -s /etc/passwd link; rm calc.py; ln -s /proc/self/environ calc.py")
    patch = sandbox.diff()
    assert b"+/etc/passwd" in patch
    assert b"root:" not in patch
    assert b"PATH=" not in patch


def test_a_large_new_file_is_left_out_of_the_patch(sandbox: Sandbox) -> None:
    sh(sandbox, "head -c 2M /dev/urandom > core; echo small > small")
    patch = sandbox.diff()
    assert b"small" in patch
    assert len(patch) < 10_000


def test_a_patch_of_no_sane_size_is_the_agents_fault(sandbox: Sandbox) -> None:
    sh(sandbox, "for n in $(seq 12); do head -c 900K /dev/urandom > f$n; done")
    with pytest.raises(SandboxDestroyed, match="8 MiB") as refused:
        sandbox.diff()
    assert outcome_of(refused.value) is Outcome.AGENT_FAULT


def test_making_a_patch_changes_nothing(sandbox: Sandbox) -> None:
    seen = "git status --porcelain; ls -A /tmp /home/agent .; git log --oneline | wc -l"
    sh(sandbox, "echo x > new; git add new; echo y >> calc.py")
    before = sh(sandbox, seen).stdout
    first = sandbox.diff()
    assert sandbox.diff() == first
    assert sh(sandbox, seen).stdout == before


def test_an_agents_own_git_is_never_run(sandbox: Sandbox) -> None:
    sandbox.write("/testbed/git", b"#!/bin/sh\ntouch /testbed/pwned\n", mode=0o755)
    sh(
        sandbox,
        "mkdir -p ~/bin; cp git ~/bin/git; printf '[core]\n\tfsmonitor = ./git\n' > ~/.gitconfig",
    )
    sandbox.diff()
    assert sh(sandbox, "test -e pwned").exit_code == 1


def test_the_agent_has_git_with_one_commit_and_nothing_else(sandbox: Sandbox) -> None:
    assert sh(sandbox, "git status --porcelain; git log --oneline --all | wc -l").stdout == b"1\n"
    assert (
        sh(
            sandbox, "git reflog; git remote; git tag; git stash list; git fsck --unreachable"
        ).stdout
        == b""
    )


def test_the_same_files_make_the_same_base_commit(
    backend: Backend, sandbox: Sandbox, spec: SandboxSpec
) -> None:
    with opened(backend, spec) as other:
        commit = sh(sandbox, "git rev-parse HEAD").stdout
        assert len(commit) == 41
        assert sh(other, "git rev-parse HEAD").stdout == commit


def test_a_history_that_comes_with_the_files_is_gone(
    backend: Backend, spec: SandboxSpec, tmp_path: Path
) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a"]
    for script in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "base"], ["tag", "fix"]):
        (tmp_path / "calc.py").write_text("def add(a, b):\n    return a - b\n")
        subprocess.run([*git, *script], check=True)
    (tmp_path / "calc.py").write_text("def add(a, b):\n    return a + b\n")
    subprocess.run([*git, "commit", "-qam", "the fix"], check=True)
    fix = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    subprocess.run([*git, "reset", "-q", "--hard", "HEAD~1"], check=True)
    tree = {
        str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()
    }
    with opened(backend, spec, files=tree) as sandbox:
        assert sh(sandbox, f"git cat-file -t {fix}").exit_code != 0
        assert sh(sandbox, "git log --all --reflog --format=%s").stdout == b"base\n"
        objects = "git cat-file --batch-all-objects --batch-check | wc -l; git fsck --lost-found"
        assert sh(sandbox, objects).stdout == b"3\n"


def test_a_file_of_the_repository_that_its_ignore_file_names_is_in_the_patch(
    backend: Backend, spec: SandboxSpec
) -> None:
    files = {".gitignore": b"*.csv\n", "kept.csv": b"1\n"}
    with opened(backend, spec, files=files) as sandbox:
        sh(sandbox, "echo 2 >> kept.csv; echo 3 > made.csv")
        patch = sandbox.diff()
    assert b"+++ b/kept.csv" in patch
    assert b"made.csv" not in patch


def test_a_working_tree_that_the_agent_has_shut_is_the_agents_fault(sandbox: Sandbox) -> None:
    assert sh(sandbox, "chmod 000 /testbed").ok
    result = sh(sandbox, "true")
    assert OUTCOME_OF_END[result.end] is Outcome.TASK
    assert result.exit_code != 0
    with pytest.raises(SandboxDestroyed) as refused:
        sandbox.diff()
    assert outcome_of(refused.value) is Outcome.AGENT_FAULT
    assert sandbox.exec(["chmod", "755", "/testbed"], cwd="/", timeout_s=20).ok
    assert sandbox.diff() == b""


def test_a_base_that_cannot_be_laid_out_is_not_the_agents_fault(sandbox: Sandbox) -> None:
    made: Any = sandbox
    made._base = made._base._replace(git=made._base.git[:-20_000])
    with pytest.raises(SandboxGone, match="memory_mib") as gone:
        sandbox.diff()
    assert outcome_of(gone.value) is Outcome.INFRA
