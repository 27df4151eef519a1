"""`python -m trainer.verify EVAL_DIR --name NAME (--model PATH | --endpoint URL --model NAME)`: score an evaluation's rollouts.

Every scored rollout gets a verifier's score, in EVAL_DIR/scores/NAME.jsonl, one line a rollout: {"rollout": id, "score": s}.
A line carries its rollout's id, so no order in which answers come can put a score elsewhere. Started again it does what is
missing.
`python -m trainer.report EVAL_DIR` then shows best@k by this verifier, and its AUC.

Exit codes: 0 done, 1 some could not be scored, 2 nothing to score, 3 stopped.
"""

import argparse
import json
import logging
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO
from uuid import UUID

from sandbox.errors import TasksetError
from trainer.config import ConfigError
from trainer.engines.generate import ContextFull, EngineUnavailable, GenerationTimeout
from trainer.evaluations.config import parse_evaluation
from trainer.evaluations.methods import BASELINES
from trainer.evaluations.scores import VERIFIER_NAME, read_scores, scores_path
from trainer.stop import STOPPED, stop_on_signals
from trainer.verifiers.questions import questions
from trainer.verifiers.verifier import EndpointVerifier, Verifier

log = logging.getLogger("trainer.verify")

NO_SCORE = EngineUnavailable, GenerationTimeout, ContextFull
"""Errors of one question; the others go on."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for its exit codes."""
    options = _options(argv)
    try:
        asked = questions(options.eval_dir, options.max_tokens, taskset=options.taskset)
        verifier = open_verifier(options)
    except (ConfigError, TasksetError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    path = scores_path(options.eval_dir, options.name)
    known = read_scores(path)
    missing = {rollout: chat for rollout, chat in asked.items() if rollout not in known}
    with stop_on_signals() as stop, closing(verifier), appended(path) as lines:
        num_scored = 0
        for rollout, score in scored(verifier, missing, options.jobs, stop):
            lines.write(json.dumps({"rollout": str(rollout), "score": score}) + "\n")
            lines.flush()
            num_scored += 1
    failed = len(missing) - num_scored
    print(f"{num_scored} rollouts scored, {len(known)} were known, {failed} have no score")
    return STOPPED if stop.is_set() else 1 if failed else 0


def scored(
    verifier: Verifier,
    asked: Mapping[UUID, list[dict[str, str]]],
    jobs: int,
    stop: threading.Event,
) -> Iterator[tuple[UUID, float]]:
    """Each rollout with its score, as they come; one that could not be scored is told in the log.

    Any other error ends it, and no question is asked after that.
    """
    broken = threading.Event()

    def ask(messages: list[dict[str, str]]) -> float | None:
        if broken.is_set():
            return None
        try:
            return verifier.score(messages)
        except NO_SCORE:
            raise
        except Exception:
            broken.set()
            raise

    with ThreadPoolExecutor(jobs, "verify") as pool:
        futures = {pool.submit(ask, messages): rollout for rollout, messages in asked.items()}
        try:
            for future in as_completed(futures):
                if stop.is_set():
                    verifier.close()
                    return
                try:
                    score = future.result()
                except NO_SCORE as error:
                    log.warning("rollout %s has no score: %s", futures[future], error)
                    continue
                if score is not None:
                    yield futures[future], score
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def appended(path: Path) -> Iterator[IO[str]]:
    """The file of scores to go on with; a torn last line is cut off."""
    path.parent.mkdir(exist_ok=True)
    if path.is_file():
        data = path.read_bytes()
        path.write_bytes(data[: data.rfind(b"\n") + 1])
    with path.open("a") as lines:
        yield lines


def open_verifier(options: argparse.Namespace) -> Verifier:
    """Raises ConfigError and OSError when there is no such model."""
    if not options.endpoint:
        folder = Path(options.model)
        if folder.is_dir() and not (folder / "config.json").is_file():
            message = f"{folder}: has no config.json; name the folder of a model"
            raise ConfigError([("model", message)])
        from trainer.verifiers.local import LocalVerifier

        return LocalVerifier(options.model)
    model = {"path": options.model, "endpoint": options.endpoint}
    rollout = {"concurrency": options.jobs}
    engine = {"max_model_len": 40960}
    return EndpointVerifier(
        parse_evaluation({"model": model, "rollout": rollout, "engine": engine})
    )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.verify", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("eval_dir", type=Path, help="folder of an evaluation")
    parser.add_argument(
        "--name", type=verifier_name, required=True, help="what reports call the verifier"
    )
    parser.add_argument("--model", required=True, help="folder or id; its name at the endpoint")
    parser.add_argument("--endpoint", default="", help="an OpenAI-compatible server: .../v1")
    parser.add_argument(
        "--max-tokens", type=int, default=65536, help="of the question, about; default: 65536"
    )
    parser.add_argument("--taskset", default="", help="name or folder; default: the evaluation's")
    parser.add_argument("--jobs", type=int, default=8, help="questions at a time; default: 8")
    return parser.parse_args(argv)


def verifier_name(text: str) -> str:
    """Raises ArgumentTypeError."""
    if not re.fullmatch(VERIFIER_NAME, text):
        message = f"{text}: letters, digits, dot, dash, underscore, a letter or digit first"
        raise argparse.ArgumentTypeError(message)
    if text in BASELINES:
        message = f"{text}: is a choice without a verifier, to which verifiers are compared"
        raise argparse.ArgumentTypeError(f"{message}; choose another name")
    return text


if __name__ == "__main__":
    sys.exit(main())
