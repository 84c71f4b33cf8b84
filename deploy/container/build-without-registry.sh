#!/usr/bin/env bash
# Builds the image of deploy/container/Dockerfile where no registry can be reached, from Debian's packages and PyPI alone,
# and runs it as it is meant to run: by runc, as user 1000, with a root that cannot be written, without capabilities or
# new privileges.
#
#   apt-get install --no-install-recommends buildah catatonit debootstrap podman runc
#   deploy/container/build-without-registry.sh build                       # 5 minutes on two cores; wants root
#   deploy/container/build-without-registry.sh run doctor                  # what is in it
#   deploy/container/build-without-registry.sh run models pull silero-vad smart-turn-v3 whisper-base
#   deploy/container/build-without-registry.sh run serve voice_chat.yaml   # then open http://localhost:8080/
#
# `build` makes debian:bookworm-slim by debootstrap, in place of the one that a registry would give, and hands the Dockerfile
# to buildah, which does what it says, line by line. So there is one recipe. `run` says with podman what the line in the
# Dockerfile says with docker; its options are those of Docker. Stop with Ctrl-C.
#
#   VOLUME    folder of models, state and files of yours, made where it is missing; by default ./thalweg-volume
#   NETWORK   the host's by default; or one of podman's
#   OPTIONS   further options of podman run, such as "--memory 4g --publish 8080:8080"
#   IMAGE     how it is called: by default localhost/thalweg
#   REQUIREMENTS  what is installed: requirements-ray.txt for one with Ray in it
#   MIRROR    where debootstrap fetches packages: by default http://deb.debian.org/debian
#   PIP_CERT  authorities that pip believes beside its own, where PyPI is a mirror with a certificate of the house
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
base=localhost/debian:bookworm-slim
image=${IMAGE:-localhost/thalweg}

# Debian, as small as the image of that name: neither manuals nor other languages, now or later
debian() {
    buildah inspect --type image "$base" > /dev/null 2>&1 && return
    local container
    root=$(mktemp --directory)
    trap 'rm -rf "$root"' EXIT
    debootstrap --variant=minbase bookworm "$root/debian" "${MIRROR:-http://deb.debian.org/debian}"
    printf 'path-exclude /usr/share/%s/*\n' doc info locale man > "$root/debian/etc/dpkg/dpkg.cfg.d/slim"
    printf 'deb http://deb.debian.org/%s main\n' 'debian bookworm' 'debian bookworm-updates' \
        'debian-security bookworm-security' > "$root/debian/etc/apt/sources.list"
    rm -rf "$root"/debian/usr/share/{doc,info,locale,man}/* "$root"/debian/var/{cache/apt,lib/apt/lists,log}/*
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$root/debian" / > /dev/null
    buildah config --cmd bash "$container"
    buildah commit --quiet --rm "$container" "$base"
}

build() {
    debian
    local secrets=()
    if [ -n "${PIP_CERT:-}" ]; then
        secrets=(--secret "id=pip.conf,src=$here/pip.conf" --secret "id=ca.crt,src=$PIP_CERT")
    fi
    buildah bud --layers --format docker --network host "${secrets[@]}" \
        --build-arg BASE="$base" --build-arg REQUIREMENTS="${REQUIREMENTS:-requirements.txt}" \
        --file "$here/Dockerfile" --tag "$image" "$here/../.."
    buildah images "$image"
}

run() {
    local volume=${VOLUME:-thalweg-volume}
    mkdir -p "$volume"
    chown 1000:1000 "$volume"
    # limits are given since those that podman would set may be more than this machine allows
    # shellcheck disable=SC2086 # OPTIONS are several
    exec podman --runtime runc run --rm --init --network "${NETWORK:-host}" --read-only --tmpfs /tmp --cap-drop all \
        --security-opt no-new-privileges --ulimit nofile=16384:16384 --ulimit nproc=4096:4096 \
        --volume "$(realpath "$volume"):/var/lib/thalweg" ${OPTIONS:-} "$image" "$@"
}

case "${1:-}" in
    build) build ;;
    run) run "${@:2}" ;;
    *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
esac
