"""`python -m tests.trainer.faulty_run RUN_DIR`: the trainer on RUN_DIR, with `faulty_engine` where vLLM is started.

The faults are the files of RUN_DIR/faults; while `gone` is there, no engine starts. What the trainer waits for before it
gives an engine up is cut to a second.
"""

import sys
from pathlib import Path

from trainer.__main__ import main
from trainer.config import TrainConfig
from trainer.engines import vllm_engine

FAULTS = "faults"


def command(_: TrainConfig, port: int) -> list[str]:
    faults = Path(sys.argv[1]) / FAULTS
    faults.mkdir(exist_ok=True)
    if (faults / "gone").exists():
        return [sys.executable, "-c", "raise SystemExit('no such device')"]
    module = [sys.executable, "-m", "tests.trainer.faulty_engine"]
    return [*module, "--port", str(port), "--faults", str(faults)]


if __name__ == "__main__":
    vllm_engine._command = command
    vllm_engine.CONTROL_TIMEOUT_S = vllm_engine.PROBE_TIMEOUT_S = 2.0
    sys.exit(main())
