"""Every way a rollout ends, through real sandboxes and real grading, with an engine that says what it is told."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.errors import Outcome
from sandbox.pool import Pool
from sandbox.task import Task, load_taskset
from tests.trainer.conftest import MakeConfig
from tests.trainer.scripted_engine import Script, ScriptedEngine
from trainer.config import TrainConfig
from trainer.engines.chat import Chat, load_prompt
from trainer.engines.generate import EngineUnavailable, GenerationTimeout
from trainer.events import EVENTS_FILE, EventWriter, RolloutFinished, TurnEnded, read_events
from trainer.grpo.rollout import Rollout, ScoredGroup
from trainer.model.policy import load_policy, make_optimizer
from trainer.rollouts.collect import Collector
from trainer.stop import RunStopped
from trainer.training.update import update

FINISH = "<function=finish>\n</function>"
LOOK = "I look.\n<function=execute_bash>\n<parameter=cmd>ls</parameter>\n</function>"


@pytest.fixture(scope="module")
def task() -> Task:
    return next(t for t in load_taskset("starter").tasks if t.task_id == "starter/bonus-points")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BubblewrapBackend]:
    with closing(BubblewrapBackend(state=tmp_path_factory.mktemp("sandboxes"))) as bubblewrap:
        yield bubblewrap


class Stage:
    """A collector with its engine; `play` gives one group of the task, a rollout a script."""

    def __init__(
        self, config: TrainConfig, run_dir: Path, backend: BubblewrapBackend, task: Task
    ) -> None:
        self.config, self.run_dir, self.task = config, run_dir, task
        self.engine = ScriptedEngine(Path(config.model.path))
        self.stop = threading.Event()
        self.pool = Pool(backend)
        self.collector = Collector(
            run=UUID(int=7),
            run_dir=run_dir,
            config=config,
            engine=self.engine,
            chat=Chat(AutoTokenizer.from_pretrained(config.model.path)),
            prompt=load_prompt(config.rollout.prompt),
            backend=self.pool,
            events=EventWriter(run_dir),
            stopping=self.stop.is_set,
        )

    def play(self, *scripts: Script, step: int = 1) -> ScoredGroup:
        self.engine.scripts = list(scripts)
        (group,) = self.collector.collect(
            [self.task], step=step, purpose="train", group_size=len(scripts)
        )
        return group

    def close(self) -> None:
        self.collector.close()
        self.collector.events.close()

    def finished(self) -> list[RolloutFinished]:
        events = [event for _, event in read_events(self.run_dir / EVENTS_FILE)]
        return [event for event in events if isinstance(event, RolloutFinished)]


MakeStage = Callable[..., Stage]


@pytest.fixture
def make_stage(
    run_config: MakeConfig, tmp_path: Path, backend: BubblewrapBackend, task: Task
) -> Iterator[MakeStage]:
    stages: list[Stage] = []

    def make(concurrency: int = 1, **sections: Any) -> Stage:
        # one at a time, rollouts take their scripts in order
        sections["rollout"] = {"concurrency": concurrency} | sections.get("rollout", {})
        folder = tmp_path / uuid4().hex
        folder.mkdir()
        stages.append(Stage(run_config(**sections), folder, backend, task))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


def solution(task: Task) -> str:
    """The call that makes the task's one-line fix."""
    wrong, right = (
        next(re.finditer(rf"^{re.escape(sign)}(?!{re.escape(sign)})(.*)$", task.gold_patch, re.M))[
            1
        ]
        for sign in "-+"
    )
    (name,) = task.files
    return (
        "<function=file_editor>\n<parameter=command>str_replace</parameter>\n"
        f"<parameter=path>/testbed/{name}</parameter>\n<parameter=old_str>{wrong}</parameter>\n"
        f"<parameter=new_str>{right}</parameter>\n</function>"
    )


def raises(error: Exception) -> Callable[[], str]:
    def reply() -> str:
        raise error

    return reply


def test_a_solved_and_finished_rollout_is_rewarded(make_stage: MakeStage, task: Task) -> None:
    stage = make_stage()
    (rollout,) = stage.play([solution(task), FINISH]).rollouts
    assert (rollout.termination_reason, rollout.outcome) == ("finished", Outcome.TASK)
    assert rollout.reward == 1.0
    assert set(rollout.tests.values()) == {"PASSED"}
    assert b"score + bonus" in rollout.patch
    assert stage.engine.temperatures == {stage.config.rollout.temperature}


def test_a_wrong_fix_is_graded_zero(make_stage: MakeStage) -> None:
    (rollout,) = make_stage().play([LOOK, FINISH]).rollouts
    assert (rollout.termination_reason, rollout.reward) == ("finished", 0.0)


def test_a_rollout_out_of_turns_is_graded_and_filtered(make_stage: MakeStage, task: Task) -> None:
    group = make_stage().play([solution(task), LOOK, FINISH], [LOOK, FINISH])
    out_of_turns, finished = group.rollouts
    assert (out_of_turns.termination_reason, out_of_turns.reward) == ("max_turns", 1.0)
    assert (finished.termination_reason, finished.reward) == ("finished", 0.0)
    assert group.filtered == [True, False]


def test_a_reply_that_fills_the_response_ends_as_max_context(make_stage: MakeStage) -> None:
    stage = make_stage(rollout={"max_response_tokens": 90, "max_turn_tokens": 80, "max_turns": 9})
    (rollout,) = stage.play(["word " * 70, FINISH]).rollouts
    assert (rollout.termination_reason, rollout.outcome) == ("max_context", Outcome.TASK)
    assert len(rollout.response_ids) <= 90
    assert rollout.reward == 0.0


def test_a_slow_engine_ends_the_rollout_as_timeout(make_stage: MakeStage) -> None:
    def slowly() -> str:
        time.sleep(1.0)
        return LOOK

    stage = make_stage(rollout={"timeout_s": 0.9})
    slow, cut = stage.play([slowly, FINISH], [raises(GenerationTimeout("late"))]).rollouts
    assert [slow.termination_reason, cut.termination_reason] == ["timeout", "timeout"]
    assert [slow.reward, cut.reward] == [0.0, 0.0]
    assert len(slow.turns) == 1
    assert not cut.turns


def test_a_malformed_call_is_an_ordinary_turn_with_an_error(make_stage: MakeStage) -> None:
    (rollout,) = make_stage().play(["no call at all", FINISH]).rollouts
    assert rollout.termination_reason == "finished"
    first, last = rollout.turns
    assert first.action is None
    assert first.error in first.observation
    assert last.action
    assert last.action.tool == "finish"


def test_a_reply_cut_at_its_own_limit_is_a_malformed_call(
    make_stage: MakeStage, task: Task
) -> None:
    stage = make_stage(rollout={"max_turn_tokens": 12})
    (rollout,) = stage.play([solution(task), FINISH]).rollouts
    assert rollout.turns[0].error
    assert rollout.turns[0].num_sampled_tokens == 12
    assert rollout.termination_reason == "finished"


def test_a_ruined_sandbox_is_the_agents_fault(make_stage: MakeStage) -> None:
    flood = LOOK.replace("ls", "for i in $(seq 12); do head -c 1000K /dev/urandom > $i; done")
    (rollout,) = make_stage().play([flood, FINISH]).rollouts
    assert (rollout.termination_reason, rollout.outcome) == ("agent_fault", Outcome.AGENT_FAULT)
    assert rollout.reward == 0.0


def test_a_dead_engine_makes_the_rollout_infra_and_counts_nowhere(
    make_stage: MakeStage, task: Task
) -> None:
    dead = raises(EngineUnavailable("gone"))
    group = make_stage().play([solution(task), FINISH], [LOOK, dead], [FINISH])
    solved, infra, failed = group.rollouts
    assert (infra.termination_reason, infra.outcome, infra.reward) == ("infra", Outcome.INFRA, None)
    assert "gone" in infra.reason
    assert [solved.reward, failed.reward] == [1.0, 0.0]
    assert group.advantages == [1.0, 0.0, -1.0]


def test_events_tell_every_turn_and_how_each_rollout_ended(
    make_stage: MakeStage, task: Task
) -> None:
    stage = make_stage()
    group = stage.play([solution(task), FINISH], ["nothing", "nothing"])
    events = [event for _, event in read_events(stage.run_dir / EVENTS_FILE)]
    turns = [event for event in events if isinstance(event, TurnEnded)]
    assert len(turns) == 4
    assert {e.termination_reason for e in stage.finished()} == {"finished", "max_turns"}
    for event, rollout in (
        (e, r) for e in stage.finished() for r in group.rollouts if r.id == e.rollout
    ):
        tokens = np.load(stage.run_dir / event.files["tokens"])
        assert tokens["response_ids"].tolist() == rollout.response_ids
        assert tokens["loss_mask"].sum() == event.num_sampled_tokens


def test_sampled_tokens_and_only_those_carry_loss(make_stage: MakeStage, task: Task) -> None:
    stage = make_stage()
    (rollout,) = stage.play([solution(task), FINISH]).rollouts
    sampled = [i for i, m in zip(rollout.response_ids, rollout.loss_mask, strict=True) if m]
    assert stage.collector.chat.tokenizer.decode(sampled) == solution(task) + FINISH
    observed = [p for p, m in zip(rollout.logprobs, rollout.loss_mask, strict=True) if not m]
    assert set(observed) == {0.0}


def test_two_groups_of_one_task_in_a_step_are_sampled_by_seeds_of_their_own(
    make_stage: MakeStage,
) -> None:
    stage = make_stage()
    stage.engine.scripts = [["<function=finish></function>"]] * 4
    stage.collector.collect([stage.task] * 2, step=1, purpose="train", group_size=2)
    assert len(set(stage.engine.seeds)) == 4


def test_a_stop_cuts_engine_and_sandboxes_short(make_stage: MakeStage) -> None:
    stage = make_stage(concurrency=2, sandbox={"command_timeout_s": 60})
    sleep = LOOK.replace("ls", "sleep 60")
    began = time.monotonic()
    threading.Timer(1.0, stage.stop.set).start()
    with pytest.raises(RunStopped):
        stage.play([sleep], [sleep], [sleep])
    assert time.monotonic() - began < 10
    assert stage.engine.closed
    assert stage.pool.leased == 0
    assert {(e.outcome, e.reward) for e in stage.finished()} == {("infra", None)}


def learn(stage: Stage, group: ScoredGroup) -> tuple[bool, str, float]:
    """(updated, reason, greatest change of a weight) of one update."""
    torch.manual_seed(0)
    policy = load_policy(stage.config.model, temperature=stage.config.rollout.temperature)
    before = [p.detach().clone() for p in policy.model.parameters()]
    optimizer = make_optimizer(policy.model, stage.config.optimizer)
    result = update(
        policy, optimizer, [group], stage.config, step=1, reference=None, stopping=stage.stop.is_set
    )
    after = policy.model.parameters()
    change = max(float((a - b).detach().abs().max()) for a, b in zip(after, before, strict=True))
    return result.updated, result.reason, change


def test_mixed_rewards_update_the_weights(make_stage: MakeStage, task: Task) -> None:
    stage = make_stage()
    updated, _, change = learn(stage, stage.play([solution(task), FINISH], [LOOK, FINISH]))
    assert updated
    assert change > 1e-4


def test_a_batch_without_any_success_takes_no_step_and_says_so(make_stage: MakeStage) -> None:
    stage = make_stage()
    updated, reason, change = learn(stage, stage.play([LOOK, FINISH], [FINISH]))
    assert (updated, change) == (False, 0.0)
    assert "no rollout carried a gradient" in reason


def test_an_update_makes_what_was_rewarded_likelier(make_stage: MakeStage, task: Task) -> None:
    stage = make_stage()
    group = stage.play([solution(task), FINISH], [LOOK, FINISH])
    policy = load_policy(stage.config.model, temperature=1.0)
    optimizer = make_optimizer(policy.model, stage.config.optimizer)

    def likelihood(rollout: Rollout) -> float:
        first = rollout.loss_mask.index(0)
        ids = torch.tensor([rollout.prompt_ids + rollout.response_ids[:first]])
        model = ScriptedEngine(Path(stage.config.model.path))
        model._model.load_state_dict(policy.model.state_dict())
        return sum(model.logprobs(rollout.prompt_ids, ids[0, -first:].tolist(), 1.0))

    before = [likelihood(r) for r in group.rollouts]
    update(policy, optimizer, [group], stage.config, step=1, reference=None, stopping=bool)
    after = [likelihood(r) for r in group.rollouts]
    gained = [a - b for a, b in zip(after, before, strict=True)]
    assert gained[0] > gained[1]
    assert gained[0] > 0
