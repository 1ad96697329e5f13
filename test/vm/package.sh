#!/bin/bash
# The package on a Debian with systemd: installed, both services, live backups, a reload, stops in the middle
# of backups, a watchdog. /dev/vdb is backed up, live at first, /dev/vdc takes what is restored.
#   test/vm/package.sh DEB
set -euo pipefail
source test/vm/common.sh
stillpoint=/usr/bin/stillpoint
directory=/srv/stillpoint

exposure() { systemd-analyze security --no-pager "$1" | sed -n 's/.*exposure level.*: \([0-9.]*\) .*/\1/p'; }
in_journal() { journalctl --no-pager --output=cat --unit="$1" --since="@$since" | grep -q "$2"; }
trap 'journalctl --no-pager --lines=40 --unit="stillpoint-*" || true' ERR

say 'installed: nothing runs, nothing is enabled'
install_deb "$PWD/$1"
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
"$stillpoint" --quiet restore data@latest /dev/vdc
mkdir -p /mnt/restored
mount -o ro /dev/vdc /mnt/restored
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
"$stillpoint" --quiet restore data@latest /dev/vdc
mount -o ro /dev/vdc /mnt/restored
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
"$stillpoint" --quiet restore other@latest /dev/vdc
cmp --bytes=$((48 << 20)) /dev/vdb /dev/vdc || fail 'the restored device differs'

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
say 'passed: package'
