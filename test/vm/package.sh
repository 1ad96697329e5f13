#!/bin/bash
# The package on a Debian with systemd: installed, both services, live backups, a reload, stops in the middle
# of backups, a watchdog, an upgrade under I/O through an attached tap, removal, purge. /dev/vdb is backed up,
# live at first, /dev/vdc is tapped, /dev/vdd takes what is restored.
#   test/vm/package.sh OLD_DEB NEW_DEB
set -euo pipefail
source test/vm/common.sh
stillpoint=/usr/bin/stillpoint
old=$PWD/$1 new=$PWD/$2
directory=/srv/stillpoint
export DEBIAN_FRONTEND=noninteractive

install_deb() { apt-get -q -y --no-install-recommends install "$1"; }
pid_of() { systemctl show --property=MainPID --value "$1"; }
exposure() { systemd-analyze security --no-pager "$1" | sed -n 's/.*exposure level.*: \([0-9.]*\) .*/\1/p'; }
in_journal() { journalctl --no-pager --output=cat --unit="$1" --since="@$since" | grep -q "$2"; }
trap 'journalctl --no-pager --lines=40 --unit="stillpoint-*" || true' ERR

say 'installed: nothing runs, nothing is enabled'
install_deb "$old"
expect 'user' stillpoint "$(id -un stillpoint)"
for unit in receiver agent agent-listen; do
  expect "$unit runs" inactive "$(systemctl is-active stillpoint-$unit || true)"
  expect "$unit is enabled" disabled "$(systemctl is-enabled stillpoint-$unit || true)"
done
[ -z "$(pgrep --full /usr/lib/stillpoint || true)" ] || fail 'something of it runs'
dpkg --listfiles stillpoint | grep -q /man1/stillpoint-receiver-serve.1.gz || fail 'manual page'

since=$(date +%s)
say 'the receiver: init as root, files of its user, ready when it serves'
install -d -o stillpoint -g stillpoint -m 700 "$directory"
"$stillpoint" --quiet receiver init "$directory" --listen 127.0.0.1:8440 --url https://localhost:8440
echo "store = '$directory'" >/etc/stillpoint/receiver.toml
"$stillpoint" receiver schedule set --at 'Mon 03:00'
systemctl enable --now stillpoint-receiver
"$stillpoint" --quiet --json receiver agents >/dev/null || fail 'the receiver does not serve'
[[ $(systemctl show --property=StatusText --value stillpoint-receiver) = "serving $directory"* ]] || fail 'no status'
level=$(exposure stillpoint-receiver)
awk -v level="$level" 'BEGIN { exit !(level <= 3.0) }' || fail "the receiver's exposure is $level"
say "exposure: receiver $level, agent $(exposure stillpoint-agent), tap $(exposure stillpoint-tap@srv)"

say 'the agent: a mounted disk, live: programs in the kernel, a freeze, a hook, an announcement, all from its service'
"$stillpoint" enroll https://localhost:8440 "$("$stillpoint" --quiet receiver invite vm)"
mkfs.ext4 -q /dev/vdb
mkdir -p /mnt/data
mount /dev/vdb /mnt/data
head -c 16M /dev/urandom >/mnt/data/file
cat >/usr/local/bin/hook <<'HOOK'
#!/bin/sh
echo ready
read -r word
echo "$word" >/run/hook.heard
HOOK
printf '#!/bin/sh\necho "$1" >>/run/announced\n' >/usr/local/bin/announce
chmod 755 /usr/local/bin/hook /usr/local/bin/announce
"$stillpoint" agent add /dev/vdb --name data --provider live --limit-rate 3M --hook /usr/local/bin/hook \
  --announce /usr/local/bin/announce --grace 1s --announce-required
systemctl enable --now stillpoint-agent
expect 'the agent' active "$(systemctl is-active stillpoint-agent)"
ordered() { result=$("$stillpoint" --json receiver backup vm data) || fail "order: $result"; }
ordered
expect 'kind' application "$(field "['point']['kind']" <<<"$result")"
expect 'what the hook heard' release "$(cat /run/hook.heard)"
expect 'announcements: before and after' 2 "$(wc -l </run/announced)"
head -c 1M /dev/urandom >/mnt/data/more
ordered
expect 'marks of the kernel used' True "$(field "['point']['providerFacts']['marksUsed']" <<<"$result")"
"$stillpoint" --quiet restore data@latest /dev/vdd
mkdir -p /mnt/restored
mount -o ro /dev/vdd /mnt/restored
for name in file more; do cmp "/mnt/data/$name" "/mnt/restored/$name" || fail "$name differs"; done
umount /mnt/restored
[ -z "$(find "$directory" ! -user stillpoint)" ] || fail "files of others: $(find "$directory" ! -user stillpoint)"
! in_journal stillpoint-receiver boot_id || fail 'the receiver cannot read the id of the boot'

say 'what an agent and its freezer that were killed together left frozen: the next start of the service thaws it'
systemctl stop stillpoint-agent
mkdir -p -m 700 /run/stillpoint/frozen
printf '{"version":1,"filesystems":[{"number":"%s","path":"/mnt/data"}]}' "$(mountpoint --fs-devno /mnt/data)" >/run/stillpoint/frozen/left
fsfreeze --freeze /mnt/data
systemctl start stillpoint-agent
timeout 60 bash -c 'echo thawed >/mnt/data/after && sync --file-system /mnt/data' || fail '/mnt/data stays frozen'
[ ! -e /run/stillpoint/frozen/left ] || fail 'the note is left'

say 'a stop of the agent in the middle of a backup: nothing stays frozen, the next backup is whole'
head -c 24M /dev/urandom >/mnt/data/more
("$stillpoint" receiver backup vm data || echo "order: $?") >/tmp/order.log 2>&1 &
order=$!
wait_until grep -q 'MiB on the wire' /tmp/order.log
systemctl stop stillpoint-agent
expect 'result' success "$(systemctl show --property=Result --value stillpoint-agent)"
timeout 60 bash -c 'echo stopped >/mnt/data/after && sync --file-system /mnt/data' || fail '/mnt/data stays frozen'
systemctl start stillpoint-agent
wait "$order" || true
cat /tmp/order.log
ordered
"$stillpoint" --quiet restore data@latest /dev/vdd
mount -o ro /dev/vdd /mnt/restored
for name in file more after; do cmp "/mnt/data/$name" "/mnt/restored/$name" || fail "$name differs"; done
umount /mnt/restored /mnt/data

say 'a reload: the same process, the settings read again'
since=$(date +%s)
pid=$(pid_of stillpoint-receiver)
systemctl reload stillpoint-receiver
wait_until in_journal stillpoint-receiver 'configuration applied'
expect 'process' "$pid" "$(pid_of stillpoint-receiver)"
expect 'state' active "$(systemctl is-active stillpoint-receiver)"

say 'a stop of the receiver in the middle of a session: parked, and continued'
head -c 48M /dev/urandom >/dev/vdb
"$stillpoint" backup /dev/vdb --name other --limit-rate 3M >/tmp/backup.log 2>&1 &
backup=$!
wait_until grep -q 'MiB on the wire' /tmp/backup.log
systemctl stop stillpoint-receiver
expect 'result' success "$(systemctl show --property=Result --value stillpoint-receiver)"
systemctl start stillpoint-receiver
# It goes on when the receiver is back. If that took too long, the next one continues its session.
if ! wait "$backup"; then
  cat /tmp/backup.log
  "$stillpoint" backup /dev/vdb --name other 2>&1 | tee /tmp/backup.log
  grep -q 'the session of that instant continues' /tmp/backup.log || fail 'what had arrived was sent again'
fi
cat /tmp/backup.log
expect 'points' 1 "$(find "$directory/points" -path '*/other/*' -type f | wc -l)"
"$stillpoint" --quiet restore other@latest /dev/vdd
cmp --bytes=$((48 << 20)) /dev/vdb /dev/vdd || fail 'the restored device differs'

say 'the watchdog: a receiver whose store is gone does not pass for alive'
mkdir -p /etc/systemd/system/stillpoint-receiver.service.d
printf '[Service]\nWatchdogSec=9\nTimeoutAbortSec=5\nRestartSec=1\n' >/etc/systemd/system/stillpoint-receiver.service.d/test.conf
systemctl daemon-reload
systemctl restart stillpoint-receiver
sleep 20
expect 'restarts while the store is there' 0 "$(systemctl show --property=NRestarts --value stillpoint-receiver)"
mv "$directory" "$directory.gone"
is_restarted() { [ "$(systemctl show --property=NRestarts --value stillpoint-receiver)" != 0 ]; }
wait_until is_restarted
mv "$directory.gone" "$directory"
wait_until systemctl --quiet is-active stillpoint-receiver
rm -r /etc/systemd/system/stillpoint-receiver.service.d
systemctl daemon-reload
systemctl restart stillpoint-receiver

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
# Writes and syncs until it is told to end, and says how long the slowest write took.
path, result = sys.argv[1:]
file, slowest, count = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DSYNC), 0.0, 0
while not os.path.exists('/tmp/enough'):
    begin = time.monotonic()
    os.pwrite(file, count.to_bytes(8, 'little') * 512, count % 4096 * 4096)
    slowest, count = max(slowest, time.monotonic() - begin), count + 1
open(result, 'w').write(f'{slowest:.2f} {count}')
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
say 'passed: package'
