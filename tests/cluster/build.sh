#!/usr/bin/env bash
# Build the four Kubernetes programs that a one-node cluster needs, from Debian's source package of 1.20.2, into FOLDER/bin.
# Debian ships no such binaries. About 6 minutes on two cores, once; nothing is done where they exist already.
# It starts no service. System packages are installed as root, else named.
set -euo pipefail

FOLDER=${1:?build.sh FOLDER: a cache folder outside the source tree}
PROGRAMS=(kube-apiserver kube-controller-manager kube-scheduler kubelet)
PACKAGES=(docker.io containerd runc crun iptables debootstrap etcd-server conntrack socat containernetworking-plugins ethtool gcc libc6-dev)
BUILD_PACKAGES=(golang-1.19-go golang-github-modern-go-reflect2-dev dpkg-dev make rsync)
REFLECT2=/usr/share/gocode/src/github.com/modern-go/reflect2

say() { printf 'cluster: %s\n' "$*" >&2; }

install_packages() { # PACKAGE...
    local package missing=()
    for package in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || { say "missing packages: apt-get install --no-install-recommends ${missing[*]}"; exit 1; }
    say "installing ${missing[*]}"
    # Nothing here may start a service of the machine's own: no dockerd on /var/run/docker.sock, no etcd on 2379.
    local policy=/usr/sbin/policy-rc.d made=
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made=yes; }
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 update >/dev/null &&
        DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends \
            "${missing[@]}" >"$FOLDER/apt.log" 2>&1 || { tail -n 5 "$FOLDER/apt.log" >&2; exit 1; }
    [ -z "$made" ] || rm -f $policy
}

fetch_source() {
    local apt=$FOLDER/apt
    mkdir -p "$apt/lists/partial"
    sed 's/^Types: deb$/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >"$apt/source.sources"
    local options=(-o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$apt" -o "Dir::State::Lists=$apt/lists"
        -o "APT::Sandbox::User=root" -o "Acquire::Languages=none")
    say "fetching Debian's source package of Kubernetes"
    apt-get -qq "${options[@]}" update
    (cd "$FOLDER/source" && apt-get -qq "${options[@]}" source kubernetes >"$FOLDER/source.log" 2>&1) ||
        { tail -n 5 "$FOLDER/source.log" >&2; exit 1; }
}

build() { # SOURCE
    cd "$1"
    # The vendored reflect2 1.0.1 corrupts memory when built by Go 1.18 or newer: the API server dies within minutes.
    rm -f vendor/github.com/modern-go/reflect2/*.go vendor/github.com/modern-go/reflect2/*.s
    cp "$REFLECT2"/*.go "$REFLECT2"/*.s vendor/github.com/modern-go/reflect2/
    mkdir -p .go/src/k8s.io
    ln -sfn ../../.. .go/src/k8s.io/kubernetes
    printf '%s\n' "KUBE_GIT_COMMIT='0'" "KUBE_GIT_TREE_STATE='clean'" "KUBE_GIT_VERSION='v1.20.2'" \
        "KUBE_GIT_MAJOR='1'" "KUBE_GIT_MINOR='20'" >"$FOLDER/version"
    export PATH=/usr/lib/go-1.19/bin:$PATH GOPATH=$PWD/.go GO111MODULE=off CGO_ENABLED=0 GOFLAGS=-p=2
    export GOCACHE=$FOLDER/go-cache KUBE_GIT_VERSION_FILE=$FOLDER/version
    cd .go/src/k8s.io/kubernetes
    say "building ${PROGRAMS[*]}: several minutes"
    make WHAT="${PROGRAMS[*]/#/cmd/}" >"$FOLDER/build.log" 2>&1 || { tail -n 20 "$FOLDER/build.log" >&2; exit 1; }
}

mkdir -p "$FOLDER"
exec 9>"$FOLDER/lock"
flock 9
install_packages "${PACKAGES[@]}"
# The revision of this recipe: raised when binaries made by an older one must not be used.
REVISION=2
[ "$(cat "$FOLDER/bin/revision" 2>/dev/null)" != $REVISION ] || exit 0
install_packages "${BUILD_PACKAGES[@]}"
mkdir -p "$FOLDER/source"
ls "$FOLDER"/source/kubernetes-*/Makefile >/dev/null 2>&1 || fetch_source
SOURCE=$(echo "$FOLDER"/source/kubernetes-*/)
(build "$SOURCE")
rm -rf "$FOLDER/bin.new"
mkdir "$FOLDER/bin.new"
for program in "${PROGRAMS[@]}"; do
    find "$SOURCE/_output/local/bin" -type f -name "$program" -perm -u+x -exec install -t "$FOLDER/bin.new" {} +
    [ -x "$FOLDER/bin.new/$program" ] || { say "$program was not built: see $FOLDER/build.log"; exit 1; }
done
echo $REVISION >"$FOLDER/bin.new/revision"
rm -rf "$FOLDER/bin"
mv -T "$FOLDER/bin.new" "$FOLDER/bin"
rm -rf "$FOLDER/source" "$FOLDER/go-cache" "$FOLDER/apt"
say "built into $FOLDER/bin"
