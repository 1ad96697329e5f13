#!/bin/bash
# A tap of /dev/vdb that is mounted by /etc/fstab, as docs/tap.md has it, with a service on it: the
# tap is killed, the machine is restarted. /dev/vdc takes what is restored. One boot for each
# argument: first, second.
set -euo pipefail
source test/vm/common.sh

main_process() { systemctl show --property=MainPID --value "$1"; }
is_replaced() {
  local now
  now=$(main_process holder)
  [ "$now" != 0 ] && [ "$now" != "$1" ]
}

say "fstab: $1"
case $1 in
  first)
    install_unit
    "$stillpoint" --quiet tap add /dev/vdb --name srv --attach || fail 'tap add'
    mkfs.ext4 -q /run/stillpoint/taps/srv/device
    mkdir -p /srv
    grep '^/run/stillpoint/taps/srv/device ' docs/tap.md >>/etc/fstab
    # Has a file open there all the time.
    cat >/etc/systemd/system/holder.service <<'UNIT'
[Unit]
RequiresMountsFor=/srv
[Service]
ExecStart=/bin/bash -c 'exec sleep infinity >>/srv/open'
[Install]
WantedBy=multi-user.target
UNIT
    systemctl daemon-reload
    systemctl enable --now holder
    expect mounted "$(readlink -f /run/stillpoint/taps/srv/device)" "$(findmnt --noheadings --output SOURCE /srv)"
    cp -r src /srv/kept
    backup /dev/vdb srv

    say 'killed: the service is stopped, /srv unmounted, the tap started, all of it again'
    holder=$(main_process holder)
    kill -KILL "$(main_process stillpoint-tap@srv)"
    wait_until is_replaced "$holder"
    expect mounted "$(readlink -f /run/stillpoint/taps/srv/device)" "$(findmnt --noheadings --output SOURCE /srv)"
    diff -r src /srv/kept || fail 'files differ'
    cp -r test /srv/later
    ;;
  second)
    wait_until systemctl --quiet is-active holder
    expect mounted "$(readlink -f /run/stillpoint/taps/srv/device)" "$(findmnt --noheadings --output SOURCE /srv)"
    diff -r test /srv/later || fail 'files differ'
    backup /dev/vdb srv
    expect 'map used' True "$(field "['tracking']['used']" <<<"$result")"
    expect 'its reason' 'the map was written at a clean end' "$(field "['tracking']['reason']" <<<"$result")"
    systemctl stop holder srv.mount
    backup /dev/vdb srv
    "$stillpoint" --quiet restore srv@latest /dev/vdc --store "$store" || fail restore
    cmp /dev/vdb /dev/vdc || fail 'the restored device differs'
    say 'passed: fstab'
    ;;
esac
