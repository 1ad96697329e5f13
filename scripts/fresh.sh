# A minimal Debian of its own, for tests of what a user has who has nothing else. To be sourced after
# common.sh, with $suite and $test (its name, for messages) set, as root. It makes $root, and removes it at
# the end. STILLPOINT_MIRROR names the archive, where it is not debootstrap's own. shellcheck shell=bash

[ "$(id -u)" = 0 ] || fail "$test: only root can make a Debian of its own. Run it as root."
command -v debootstrap >/dev/null || fail "$test: debootstrap is missing. Install it with \"apt-get install debootstrap\"."

root=$(mktemp -d "${TMPDIR:-/tmp}/stillpoint-fresh.XXXXXX")

# All mounts are made in a namespace that has ended by now: nothing but files is below, or nothing is removed.
remove_root() {
  local status=$?
  trap - EXIT
  if grep -qF " $root" /proc/self/mountinfo; then
    echo "$test: something is mounted below $root, so it is left there. Unmount it, then remove it." >&2
  else
    rm -rf --one-file-system "$root"
  fi
  exit "$status"
}
trap remove_root EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# What a machine behind a proxy or with a registry of its own needs to reach the same places.
hand_in() {
  local cafile
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  apt-config dump Acquire | grep -iE 'proxy|cainfo' >"$root/etc/apt/apt.conf.d/99handed-in" || true
  environment=(PATH=/usr/local/bin:/usr/bin:/bin HOME=/root LC_ALL=C)
  if PATH=$machine_path command -v npm >/dev/null; then
    environment+=("npm_config_registry=$(PATH=$machine_path npm config get registry)")
    cafile=$(PATH=$machine_path npm config get cafile)
  fi
  [ -f "${cafile:=}" ] || cafile=${NODE_EXTRA_CA_CERTS:-}
  if [ -f "$cafile" ]; then
    cp -L "$cafile" "$root/etc/handed-in.crt"
    environment+=(NODE_EXTRA_CA_CERTS=/etc/handed-in.crt)
  fi
  # Services of packages are not to be started.
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod +x "$root/usr/sbin/policy-rc.d"
}

# inside COMMAND...: in namespaces of its own, so that neither a mount nor a process outlives it.
inside() {
  unshare --mount --propagation private --pid --fork --kill-child bash -euo pipefail -c '
    root=$1
    shift
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o mode=755 run "$root/run"
    exec chroot "$root" env -i "$@"
  ' bash "$root" "${environment[@]}" "$@"
}

# make_debian OPTION...: debootstrap's options.
make_debian() {
  mkdir -p "$logs"
  chmod 755 "$root"
  step "debootstrap $suite" debootstrap --variant=minbase "$@" "$suite" "$root" ${STILLPOINT_MIRROR:+"$STILLPOINT_MIRROR"}
  hand_in
}
