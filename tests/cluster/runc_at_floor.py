#!/usr/bin/env python3
"""runc where a process may not lower its oom_score_adj below its own: raise what a bundle asks for to that, then run runc.

The kubelet asks for -998 for its own containers; inside some containers and virtual machines the kernel refuses.
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    arguments = sys.argv[1:]
    if "--bundle" in arguments:
        path = Path(arguments[arguments.index("--bundle") + 1]) / "config.json"
        if path.exists():
            config = json.loads(path.read_text())
            floor = int(Path("/proc/self/oom_score_adj").read_text())
            process = config["process"]
            process["oomScoreAdj"] = max(process.get("oomScoreAdj", 0), floor)
            path.write_text(json.dumps(config))
    os.execvp("runc", ["runc", *arguments])


main()
