#!/bin/bash
# The package on a Debian with systemd: an upgrade of both services and under I/O through an attached tap,
# removal, purge. /dev/vdb is backed up, /dev/vdc is tapped.
#   test/vm/upgrade.sh OLD_DEB NEW_DEB
set -euo pipefail
source test/vm/common.sh
stillpoint=/usr/bin/stillpoint
old=$PWD/$1 new=$PWD/$2
directory=/srv/stillpoint
trap 'journalctl --no-pager --lines=40 --unit="stillpoint-*" || true' ERR

say 'the older version, with both services'
install_deb "$old"
install -d -o stillpoint -g stillpoint -m 700 "$directory"
"$stillpoint" --quiet receiver init "$directory" --listen 127.0.0.1:8440 --url https://localhost:8440
echo "store = '$directory'" >/etc/stillpoint/receiver.toml
systemctl enable --now stillpoint-receiver
"$stillpoint" enroll https://localhost:8440 "$("$stillpoint" --quiet receiver invite vm)"
head -c 16M /dev/urandom >/dev/vdb
"$stillpoint" agent add /dev/vdb --name data
systemctl enable --now stillpoint-agent
"$stillpoint" --quiet receiver backup vm data

say 'an upgrade under I/O through a tap: it never stalls and never fails'
"$stillpoint" --quiet tap add /dev/vdc --name srv --attach
mkfs.ext4 -q /run/stillpoint/taps/srv/device
mkdir -p /mnt/tapped
mount /run/stillpoint/taps/srv/device /mnt/tapped
tap=$(pid_of stillpoint-tap@srv)
receiver=$(pid_of stillpoint-receiver)
agent=$(pid_of stillpoint-agent)
python3 - /mnt/tapped/written /tmp/slowest <<'PYTHON' &
import os, sys, time
# Writes and syncs until it is told to end, and says how long the slowest write took. It leaves an emulated
# machine time for the services.
path, result = sys.argv[1:]
file, slowest, count = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DSYNC), 0.0, 0
while not os.path.exists('/tmp/enough'):
    begin = time.monotonic()
    os.pwrite(file, count.to_bytes(8, 'little') * 512, count % 4096 * 4096)
    slowest, count = max(slowest, time.monotonic() - begin), count + 1
    time.sleep(0.05)
open(result, 'w').write(f'{slowest:.2f} {count}\n')
PYTHON
writer=$!
sleep 3
install_deb "$new"
expect 'process of the tap' "$tap" "$(pid_of stillpoint-tap@srv)"
# apt does not wait for them.
is_new() { [ "$(pid_of "$1")" != "$2" ] && systemctl --quiet is-active "$1"; }
wait_until is_new stillpoint-receiver "$receiver"
wait_until is_new stillpoint-agent "$agent"
former=$(readlink "/proc/$tap/exe")
former=${former%% *}
[ -e "$former" ] || fail "$former is gone while the tap runs from it"
expect 'what the agent runs' "/usr/lib/stillpoint/$("$stillpoint" --version)" \
  "$(readlink "/proc/$(pid_of stillpoint-agent)/exe" | cut -d/ -f1-5)"
"$stillpoint" backup /dev/vdc --name srv
"$stillpoint" --quiet receiver backup vm data
expect 'points of before and after' 2 "$(find "$directory/points" -path '*/data/*' -type f | wc -l)"
touch /tmp/enough
wait "$writer"
read -r slowest count </tmp/slowest
say "$count writes, the slowest took $slowest s"
awk -v slowest="$slowest" 'BEGIN { exit !(slowest < 15) }' || fail 'a write stalled'
journalctl --no-pager --dmesg | grep -E 'nbd.*(error|timed out)|I/O error' && fail 'I/O failed'

say 'removal is refused while a tap runs'
! apt-get -q -y remove stillpoint || fail 'it was removed'
expect 'process of the tap' "$tap" "$(pid_of stillpoint-tap@srv)"
umount /mnt/tapped
"$stillpoint" tap stop srv
"$stillpoint" tap start srv
expect 'what the tap runs now' "/usr/lib/stillpoint/$("$stillpoint" --version)" \
  "$(readlink "/proc/$(pid_of stillpoint-tap@srv)/exe" | cut -d/ -f1-5)"
"$stillpoint" tap remove srv

say 'removed: services end, state stays'
apt-get -q -y remove stillpoint
[ -z "$(pgrep --full /usr/lib/stillpoint || true)" ] || fail 'something of it runs'
[ ! -e /usr/lib/stillpoint ] || fail 'files are left'
[ -e /var/lib/stillpoint ] || fail 'the state is gone'

say 'purged: all of it goes, but no backups'
apt-get -q -y purge stillpoint | tee /tmp/purge.log
for path in /etc/stillpoint /var/lib/stillpoint /var/lib/stillpoint-receiver /usr/share/doc/stillpoint \
  /etc/systemd/system/multi-user.target.wants/stillpoint-receiver.service; do
  [ ! -e "$path" ] && [ ! -L "$path" ] || fail "$path is left"
done
grep -q 'the user stillpoint is kept' /tmp/purge.log || fail 'nothing said of the user'
[ "$(find "$directory/points" -type f | wc -l)" -ge 3 ] || fail 'points are gone'
say 'passed: upgrade'
