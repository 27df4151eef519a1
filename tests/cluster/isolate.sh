#!/bin/sh
# A chained CNI plugin: after `bridge`, mark a pod's port as isolated, so that pods do not see each other.
#
# Stands where a real network plugin enforces NetworkPolicy. Pods of a namespace whose name begins with "open" are left as they
# are, and any pod reaches those: with them the tests have something that the egress probe must find.
# A shell, since two of these are started for each pod. What it is handed is one line of JSON, its keys in alphabetical order.
set -eu
case $CNI_COMMAND in
VERSION) echo '{"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]}' ;;
ADD)
    config=$(cat)
    result=${config#*'"prevResult":'}
    result=${result%',"type":"isolate"}'}
    port=${result#*'"name":"veth'}
    port=veth${port%%'"'*}
    case ${CNI_ARGS:-} in
    *K8S_POD_NAMESPACE=open*) ;;
    *) echo 1 >"/sys/class/net/$port/brport/isolated" ;;
    esac
    printf '%s\n' "$result"
    ;;
esac
