"""Registering verifiers from the page, the API and the command, and the page that lists them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from webapp.api.models import ApiToken
from webapp.verifiers.models import Verifier, VerifierKind
from webapp.verifiers.registry import RegistryError, known_by_results, register

pytestmark = pytest.mark.django_db

QUALITY = {"num_examples": 24, "num_solved": 9, "auc": 0.8125, "brier": 0.19}
MEASURED: dict[str, Any] = {
    "model": "var/models/smollm2-135m",
    "evaluations": ["var/evaluations/train"],
    "num_train": 96,
    "heldout_tasks": ["starter/a", "starter/b", "starter/c"],
    "epochs": 2,
    "learning_rate": 1e-5,
    "before": QUALITY | {"auc": None, "calibration_error": 0.31},
    "after": QUALITY | {"calibration_error": 0.0625},
}


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder as `trainer.train_verifier` leaves it, as far as registering reads it."""
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "verifier.json").write_text(json.dumps(MEASURED))
    return folder


def test_the_page_registers_what_was_trained_and_lists_it(
    client: Client, alice: User, trained: Path, django_assert_max_num_queries: Callable
) -> None:
    client.force_login(alice)
    assert "No verifier yet" in client.get("/verifiers/").content.decode()
    answer = client.post(
        "/verifiers/", {"name": "judge", "kind": "judge", "path": str(trained), "endpoint": ""}
    )
    assert answer.status_code == 302
    verifier = Verifier.objects.get()
    assert (verifier.owner, verifier.base_model) == (alice, "var/models/smollm2-135m")
    assert (verifier.heldout["auc"], verifier.max_tokens) == (0.8125, 4096)
    with django_assert_max_num_queries(8):
        page = client.get("/verifiers/").content.decode()
    assert "No verifier yet" not in page
    assert "0.812" in page
    assert "24 rollouts of 3 tasks that it never saw; – before training" in page


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"name": "no name", "path": "m"}, "Letters, digits"),
        ({"name": "..", "path": "m"}, "a letter or digit first"),
        ({"name": "-x", "path": "m"}, "a letter or digit first"),
        ({"name": "judge", "path": "m"}, "is taken"),
        ({"name": "vote", "path": "m"}, "is a choice without a verifier"),
        ({"name": "other", "path": "m", "endpoint": "host:8000"}, "needs a URL"),
        ({"name": "other", "path": ""}, "This field is required"),
    ],
)
def test_what_cannot_be_is_said_beside_its_field(
    client: Client, alice: User, data: dict[str, str], said: str
) -> None:
    register(name="judge", path="m", owner=alice)
    client.force_login(alice)
    answer = client.post("/verifiers/", {"kind": "judge"} | data)
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert Verifier.objects.count() == 1


def test_a_folder_that_says_nonsense_is_refused(trained: Path, alice: User) -> None:
    path = trained / "verifier.json"
    path.write_text(json.dumps(MEASURED | {"after": QUALITY}))
    with pytest.raises(RegistryError, match=r"after\.calibration_error"):
        register(name="judge", path=str(trained), owner=alice)
    path.write_text("{")
    with pytest.raises(RegistryError, match="is no JSON"):
        register(name="judge", path=str(trained), owner=alice)


def test_a_path_that_cannot_be_looked_at_is_of_another_machine(
    alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not register(name="long", path="m" * 300, owner=alice).measured

    def refuses(*_: object, **__: object) -> None:
        raise PermissionError("stand-in for a folder of another user: this test may run as root")

    monkeypatch.setattr(Path, "stat", refuses)
    assert not register(name="private", path="/home/other/model", owner=alice).measured


def test_scores_under_a_baselines_name_are_refused() -> None:
    with pytest.raises(RegistryError, match="'random' is a choice without a verifier"):
        known_by_results("random", VerifierKind.JUDGE)


def test_a_name_that_is_known_by_its_scores_gets_its_model(alice: User) -> None:
    known = known_by_results("judge", VerifierKind.JUDGE)
    assert known_by_results("judge", VerifierKind.JUDGE) == known
    assert not known.can_be_asked
    assert register(name="judge", path="m", owner=alice).pk == known.pk
    known.refresh_from_db()
    # its scores are everybody's, and an owner may remove them
    assert (known.owner, known.can_be_asked) == (None, True)


def test_the_api_registers_from_what_is_sent(alice: User) -> None:
    api = Client(headers={"authorization": f"Bearer {ApiToken.issue(alice, 'script')}"})
    sent = {"name": "far", "path": "/mnt/far", "measured": MEASURED | {"max_tokens": 900}}
    answer = api.post("/api/verifiers", sent, content_type="application/json")
    assert answer.status_code == 201
    assert answer.json()["heldout"]["auc"] == 0.8125
    assert answer.json()["max_tokens"] == 900
    again = api.post("/api/verifiers", sent, content_type="application/json")
    assert again.json()["problems"][0]["field"] == "name"
    assert [row["name"] for row in api.get("/api/verifiers").json()["verifiers"]] == ["far"]
    assert Client().get("/api/verifiers").status_code == 401


def test_the_command_registers_where_the_folder_is(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("register_verifier", "judge", str(trained))
    assert "registered, held-out AUC 0.812" in capsys.readouterr().out
    with pytest.raises(CommandError, match="is taken"):
        call_command("register_verifier", "judge", str(trained))


def test_its_owner_and_staff_remove_it(client: Client, alice: User, bob: User) -> None:
    verifier = register(name="judge", path="m", owner=alice)
    client.force_login(bob)
    address = f"/verifiers/{verifier.pk}/remove/"
    assert address not in client.get("/verifiers/").content.decode()
    assert client.post(address).status_code == 403
    client.force_login(alice)
    assert address in client.get("/verifiers/").content.decode()
    assert client.post(address).status_code == 302
    assert not Verifier.objects.exists()
    assert client.post(address).status_code == 404
