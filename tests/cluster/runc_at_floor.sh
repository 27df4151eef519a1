#!/bin/sh
# runc where a process may not lower its oom_score_adj below its own: raise what a bundle asks for to that, then run runc.
# The kubelet asks for -998 for its own containers; inside some containers and virtual machines the kernel refuses.
#
# A shell, since each command in a pod goes through here several times.
raise='
import json, pathlib, sys
path = pathlib.Path(sys.argv[1], "config.json")
config = json.loads(path.read_text())
floor = int(pathlib.Path("/proc/self/oom_score_adj").read_text())
process = config["process"]
process["oomScoreAdj"] = max(process.get("oomScoreAdj", 0), floor)
path.write_text(json.dumps(config))
'
bundle=
for word; do
    [ "$bundle" != next ] || bundle=$word
    [ "$word" != --bundle ] || bundle=next
done
[ ! -e "$bundle/config.json" ] || python3 -I -S -c "$raise" "$bundle"
exec runc "$@"
