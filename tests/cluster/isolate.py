#!/usr/bin/env -S python3 -I -S
"""A chained CNI plugin: after `bridge`, mark a pod's port as isolated, so that pods do not see each other.

Stands where a real network plugin enforces NetworkPolicy. Pods of a namespace whose name begins with "open" are left
as they are, and any pod reaches those: with them the tests have something that the egress probe must find.
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    if os.environ["CNI_COMMAND"] == "VERSION":
        print(json.dumps({"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]}))
        return
    config = json.load(sys.stdin)
    if os.environ["CNI_COMMAND"] != "ADD":
        return
    result = config["prevResult"]
    if "K8S_POD_NAMESPACE=open" not in os.environ.get("CNI_ARGS", ""):
        for interface in result["interfaces"]:
            port = Path("/sys/class/net") / interface["name"] / "brport" / "isolated"
            if not interface.get("sandbox") and port.exists():
                port.write_text("1")
    print(json.dumps({**result, "cniVersion": config["cniVersion"]}))


main()
