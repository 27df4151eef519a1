"""Verifiers: what they read, what a score is, that it lands on its rollout, and what reports make of it."""

import json
import math
import random
import threading
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sandbox.task import load_taskset
from sandbox.trajectory import Turn
from tests.trainer.judging_endpoint import BreakingProxy, JudgingEndpoint, reply
from tests.trainer.random_models import make_model
from tests.trainer.scripted_endpoint import ScriptedEndpoint
from trainer import report, verify
from trainer.engines.generate import EngineUnavailable
from trainer.evaluate import main as evaluate
from trainer.evaluations.config import EVAL_FILE
from trainer.evaluations.estimates import auc
from trainer.evaluations.methods import methods
from trainer.evaluations.results import Result, read_results
from trainer.evaluations.scores import read_scores, scores_path, worth
from trainer.verifiers.local import LocalVerifier, yes_over_no
from trainer.verifiers.prompt import SYSTEM, messages, shortened
from trainer.verifiers.verifier import score_of_reply, share_of_yes

NAMES = ["bonus-points", "budget-left", "class-average", "count-the-sheep"]


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tasks, three rollouts each, about half of them solved."""
    folder: Path = tmp_path_factory.mktemp("evaluation")
    with ScriptedEndpoint(load_taskset("starter").tasks) as endpoint:
        (folder / EVAL_FILE).write_text(
            f"""
            model = {{ path = "m", endpoint = "{endpoint.url}" }}
            tasks = {{ split = "all", only = {NAMES} }}
            rollout = {{ group_size = 3, prompt = "starter" }}
            engine = {{ max_model_len = 40000 }}
            """
        )
        assert evaluate([str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def results(evaluation: Path) -> list[Result]:
    return read_results(evaluation)


def test_scores_that_come_in_any_order_land_on_their_own_rollout(
    evaluation: Path, results: list[Result], capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [t for t in load_taskset("starter").tasks if t.task_id.partition("/")[2] in NAMES]
    with JudgingEndpoint(tasks) as endpoint:
        arguments = ["--name", "judge", "--model", "m", "--endpoint", endpoint.url]
        assert verify.main([str(evaluation), *arguments]) == 0
        path = scores_path(evaluation, "judge")
        order = [json.loads(line)["rollout"] for line in path.read_text().splitlines()]
        assert order != [str(result.rollout) for result in results], "they came in order by chance"
        scores = read_scores(path)
        assert {r.rollout: round(scores[r.rollout], 6) for r in results} == {
            r.rollout: 0.9 if r.reward else 0.2 for r in results
        }
        # a torn line is scored again, and nothing else
        text = path.read_text()
        path.write_text(text[: len(text) - 20])
        before = len(endpoint.requests)
        assert verify.main([str(evaluation), *arguments]) == 0
        assert len(endpoint.requests) == before + 1
        assert read_scores(path) == scores
    found = worth(scores, results)
    assert (found.num_scored, found.auc) == (12, 1.0)
    assert report.main([str(evaluation)]) == 0
    shown = capsys.readouterr().out
    assert "| judge | 12 | 1.000 |" in shown
    assert "| best@k, judge |" in shown


def test_the_worth_of_scores_does_not_depend_on_the_order_of_lines(results: list[Result]) -> None:
    scores = {r.rollout: random.Random(i).random() for i, r in enumerate(results)}
    shuffled = list(scores.items())
    random.Random(1).shuffle(shuffled)
    assert worth(dict(shuffled), results) == worth(scores, results)


def test_a_perfect_verifier_chooses_as_well_as_any_of_k(results: list[Result]) -> None:
    perfect = {r.rollout: r.reward or 0.0 for r in results}
    scores = {"perfect": perfect, "constant": dict.fromkeys(perfect, 0.5)}
    found = {m.name: m.curve for m in methods([r.row for r in results], scores)}
    solved = {r.task for r in results if r.reward}
    assert found["perfect"][-1] == len(solved) / len(NAMES)
    assert found["constant"] == pytest.approx([sum(perfect.values()) / len(results)] * 3)


def test_a_local_model_scores_as_its_own_probabilities_say(tiny_model: Path) -> None:
    verifier = LocalVerifier(str(tiny_model))
    chat = messages("It is broken.", [], "+fixed", max_chars=1000)
    score = verifier.score(chat)
    assert 0 < score < 1
    assert verifier.score(chat) == score
    assert verifier.score(messages("Another issue.", [], "+x", max_chars=1000)) != score


def test_the_answer_is_read_where_its_word_stands() -> None:
    assert score_of_reply(reply("YES", math.log(0.6), math.log(0.2))) == pytest.approx(0.75)
    assert score_of_reply(reply("NO", math.log(0.1), math.log(0.3))) == pytest.approx(0.25)
    silent = {"choices": [{"message": {"content": "YES"}}]}
    with pytest.raises(EngineUnavailable, match="log-probabilities"):
        score_of_reply(silent)
    unreadable = {"content": [{"token": "YES", "logprob": None, "top_logprobs": []}]}
    with pytest.raises(EngineUnavailable, match="not readable"):
        score_of_reply({"choices": [{"message": {}, "logprobs": unreadable}]})
    with pytest.raises(EngineUnavailable, match="no chat completion"):
        score_of_reply({"choices": []})
    assert share_of_yes(-2000.0, 0.0) == pytest.approx(0, abs=1e-300)
    assert share_of_yes(0.0, -2000.0) == 1


def judged(word: str, logprob: float, alternatives: list[tuple[str, float]]) -> dict[str, Any]:
    told = [{"token": token, "logprob": value} for token, value in alternatives]
    sampled = {"token": word, "logprob": logprob, "top_logprobs": told}
    return {"choices": [{"message": {}, "logprobs": {"content": [sampled]}}]}


def test_a_words_probability_is_that_of_all_its_tokens() -> None:
    told = [("YES", -0.105), ("NO", -2.4), (" YES", -9.0), (" NO", -9.5)]
    yes, no = math.exp(-0.105) + math.exp(-9.0), math.exp(-2.4) + math.exp(-9.5)
    assert score_of_reply(judged("YES", -0.105, told)) == pytest.approx(yes / (yes + no))
    # the sampled one is not among those told, and counts once all the same
    assert score_of_reply(judged("YES", -0.105, told[1:])) == pytest.approx(yes / (yes + no))
    # NO is at most as likely as the least of all that is told
    told = [("YES", math.log(0.8)), ("yes", math.log(0.15)), ("Y", math.log(0.05))]
    assert score_of_reply(judged("YES", math.log(0.8), told)) == pytest.approx(0.8 / 0.85)


class BreaksAtOnce:
    """Stands in for a verifier with a defect: its first question fails, and it counts what it is asked."""

    def __init__(self) -> None:
        self.num_asked = 0

    def score(self, messages: list[dict[str, str]]) -> float:
        self.num_asked += 1
        raise RuntimeError("out of memory")

    def close(self) -> None:
        """Nothing to end."""


def test_after_an_error_no_further_question_is_asked() -> None:
    verifier = BreaksAtOnce()
    asked: dict[UUID, list[dict[str, str]]] = {uuid4(): [] for _ in range(2000)}
    with pytest.raises(RuntimeError, match="out of memory"):
        list(verify.scored(verifier, asked, 1, threading.Event()))
    assert verifier.num_asked == 1


def test_questions_whose_answers_are_none_are_left_and_the_others_scored(
    evaluation: Path, results: list[Result]
) -> None:
    tasks = [t for t in load_taskset("starter").tasks if t.task_id.partition("/")[2] in NAMES]
    with BreakingProxy(tasks) as endpoint:
        endpoint.faults = [(200, "<html>"), (200, '{"error": "no route"}'), (200, "[]")]
        command = [str(evaluation), "--name", "proxied", "--model", "m", "--jobs", "1"]
        assert verify.main([*command, "--endpoint", endpoint.url]) == 1
    scores = read_scores(scores_path(evaluation, "proxied"))
    assert len(scores) == len(results) - 3


def turn(index: int, text: str, observation: str) -> Turn:
    return Turn(index=index, text=text, observation=observation)


def test_a_question_has_issue_log_patch_and_keeps_its_length() -> None:
    turns = [turn(0, "I look.", "a.py\n" * 400), turn(1, "I fix it.", "done")]
    system, asked = messages("It is broken.", turns, "+fixed", max_chars=1400)
    assert system["content"] == SYSTEM
    text = asked["content"]
    parts = ["[ISSUE]\nIt is broken.", "I look.", "(left out: ", "I fix it.", "[PATCH]\n+fixed"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
    assert len(system["content"]) + len(text) <= 1400 + 100
    assert "(nothing was changed)" in messages("", [], "", max_chars=100)[1]["content"]


@given(st.lists(st.text(min_size=0, max_size=400)), st.integers(0, 3000))
def test_shortening_takes_the_longest_first_and_is_always_the_same(
    pieces: list[str], room: int
) -> None:
    once = shortened(pieces, room)
    assert once == shortened(pieces, room)
    assert sum(map(len, once)) <= sum(map(len, pieces))
    if sum(map(len, pieces)) <= room:
        assert once == pieces
    cut = [len(p) for p, s in zip(pieces, once, strict=True) if p != s]
    could_be_cut = [p for p in pieces if p in once and shortened([p], 0) != [p]]
    assert all(len(piece) <= min(cut) for piece in could_be_cut if cut)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 4)), max_size=30))
def test_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[float, int]]) -> None:
    solved = [score for reward, score in pairs if reward]
    others = [score for reward, score in pairs if not reward]
    found = auc([reward for reward, _ in pairs], [score for _, score in pairs])
    if not solved or not others:
        assert found is None
        return
    won = sum((a > b) + (a == b) / 2 for a in solved for b in others)
    assert found == pytest.approx(won / len(solved) / len(others))


@pytest.mark.parametrize("name", ["..", ".hidden", "-x", "a/b", ""])
def test_a_name_is_no_way_out_of_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        verify.main([str(tmp_path), f"--name={name}", "--model", "m"])


@pytest.mark.parametrize("name", ["vote", "random"])
def test_a_baselines_name_is_no_verifiers(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        verify.main([str(tmp_path), f"--name={name}", "--model", "m"])
    assert "choose another name" in capsys.readouterr().err


@pytest.mark.parametrize("words", [([3, 4], [5]), ([5], [3, 4]), ([3, 4], [5, 6, 7]), ([3], [5])])
def test_the_log_odds_are_those_of_whole_words(words: tuple[list[int], list[int]]) -> None:
    model, prompt = make_model("llama", "sdpa").eval(), [1, 2, 9]

    def logprob(word: list[int]) -> float:
        logits = model(torch.tensor([prompt + word])).logits[0].float()
        of_tokens = torch.log_softmax(logits, -1)
        return sum(float(of_tokens[len(prompt) - 1 + i, t]) for i, t in enumerate(word))

    with torch.inference_mode():
        odds = float(yes_over_no(model, prompt, list(words)))
        assert odds == pytest.approx(logprob(words[0]) - logprob(words[1]), abs=1e-5)
