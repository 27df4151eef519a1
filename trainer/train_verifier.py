"""`python -m trainer.train_verifier OUT EVAL_DIR... --model PATH`: fine-tune a model to tell solved rollouts from others.

The examples are the scored rollouts of evaluations, as `trainer.verify` asks about them, each with its reward; evaluate on the
train split to have tasks left for what counts. A share of the tasks is held out, chosen by a hash of their names, and tells
what was learnt: AUC, Brier score and calibration error, before and after. All weights are trained, or with `--lora-rank` an
adapter that is merged into them at the end, on the log-odds of YES over NO alone (logistic loss), the two classes weighing the
same. OUT is a model folder with verifier.json beside it: hand it to
`trainer.verify --model OUT`.

Exit codes: 0 trained, 2 nothing to train on, 3 stopped; what is stopped leaves no folder.
"""

import argparse
import json
import logging
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sandbox.errors import TasksetError
from trainer.config import ConfigError, LoraConfig, parse_as
from trainer.evaluations.estimates import auc, brier, calibration_error
from trainer.evaluations.scores import VERIFIER_FILE
from trainer.model.lora import adapt, unload
from trainer.model.policy import LOADING
from trainer.stop import STOPPED, RunStopped, stop_on_signals
from trainer.verifiers.examples import Example, class_weights, read_examples
from trainer.verifiers.local import encode_question, encode_words, yes_over_no

log = logging.getLogger("trainer.train_verifier")

BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Of a verifier on labelled rollouts."""

    num_examples: int
    num_solved: int
    auc: float | None
    brier: float
    calibration_error: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for its exit codes."""
    options = _options(argv)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        train, heldout = read_examples(
            options.eval_dirs, max_tokens=options.max_tokens, heldout=options.heldout
        )
        torch.manual_seed(options.seed)
        model = load_model(options)
    except (ConfigError, TasksetError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    before = quality(model, tokenizer, heldout)
    try:
        with stop_on_signals() as stop:
            fit(
                model,
                tokenizer,
                train,
                epochs=options.epochs,
                learning_rate=options.learning_rate,
                seed=options.seed,
                stopping=stop.is_set,
            )
    except RunStopped:
        return STOPPED
    measured = {
        "before": asdict(before),
        "after": asdict(quality(model, tokenizer, heldout)),
    }
    unload(model)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    told = description(options, len(train), heldout) | measured
    (options.out / VERIFIER_FILE).write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(measured, indent=1))
    return 0


def load_model(options: argparse.Namespace) -> Any:
    """With an adapter where `--lora-rank` asks for one. Raises ConfigError when the model cannot have it."""
    with LOADING:
        model: Any = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    if options.lora_rank:
        adapt(model, parse_as(LoraConfig, {"rank": options.lora_rank}), seed=options.seed)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def description(
    options: argparse.Namespace, num_train: int, heldout: Sequence[Example]
) -> dict[str, Any]:
    """How the verifier came to be."""
    return {
        "model": options.model,
        "evaluations": [str(folder) for folder in options.eval_dirs],
        "num_train": num_train,
        "heldout_tasks": sorted({example.task for example in heldout}),
        "epochs": options.epochs,
        "learning_rate": options.learning_rate,
        "lora_rank": options.lora_rank,
        "max_tokens": options.max_tokens,
    }


def fit(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    stopping: Callable[[], bool] = lambda: False,
) -> list[float]:
    """Train in place; the mean weighted loss of each batch. Raises RunStopped."""
    words = encode_words(tokenizer)
    prompts = [encode_question(tokenizer, example.messages) for example in examples]
    weights = class_weights([example.reward for example in examples])
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    shuffled = random.Random(seed)
    losses: list[float] = []
    model.train()
    for epoch in range(epochs):
        order = shuffled.sample(range(len(examples)), len(examples))
        for batch in (order[i : i + BATCH] for i in range(0, len(order), BATCH)):
            total = 0.0
            for i in batch:
                if stopping():
                    raise RunStopped
                odds = yes_over_no(model, prompts[i], words)
                signed = odds if examples[i].reward >= 1 else -odds
                loss = -torch.nn.functional.logsigmoid(signed) * weights[i] / len(batch)
                loss.backward()
                total += float(loss.detach())
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(total)
            done = f"{len(losses)} of {epochs * math.ceil(len(order) / BATCH)}"
            log.info("epoch %d of %d, batch %s: loss %.4f", epoch + 1, epochs, done, total)
    model.eval()
    return losses


@torch.inference_mode()
def quality(model: Any, tokenizer: Any, examples: Sequence[Example]) -> Quality:
    """Of the model as it is."""
    model.eval()
    words = encode_words(tokenizer)
    scores = []
    for example in examples:
        odds = yes_over_no(model, encode_question(tokenizer, example.messages), words)
        scores.append(1 / (1 + math.exp(-max(float(odds), -700.0))))
    rewards = [float(example.reward >= 1) for example in examples]
    return Quality(
        num_examples=len(examples),
        num_solved=int(sum(rewards)),
        auc=auc(rewards, scores),
        brier=brier(rewards, scores),
        calibration_error=calibration_error(rewards, scores),
    )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.train_verifier", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("out", type=Path, help="folder for the verifier")
    parser.add_argument("eval_dirs", type=Path, nargs="+", help="folders of evaluations")
    parser.add_argument("--model", required=True, help="folder or id to begin with")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--lora-rank", type=int, default=0, help="0 trains all weights")
    parser.add_argument("--heldout", type=float, default=0.2, help="share of the tasks")
    parser.add_argument("--max-tokens", type=int, default=4096, help="of one example, about")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
