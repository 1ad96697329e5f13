#!/bin/bash
# PostgreSQL under load, its tables on a logical volume of /dev/vdb, its log on /dev/vdc behind a tap. Both
# are backed up as a group, without a hook: what is restored starts, with every commit that was acknowledged
# before the instant, and none that was begun after it.
set -euo pipefail
source test/vm/common.sh

pg=$(dirname /usr/lib/postgresql/*/bin/initdb)
acked=/run/acked
images=/var/tmp/images
mkdir -p "$images" /srv/data /srv/wal /etc/stillpoint

as_postgres() { runuser -u postgres -- "$@"; }
start_database() {
  as_postgres "$pg/pg_ctl" -D /srv/data/db -w -t 600 -l /tmp/postgres.log -o "-k /tmp -c listen_addresses=''" start >/dev/null ||
    fail "$(tail -20 /tmp/postgres.log)"
}
stop_database() { as_postgres "$pg/pg_ctl" -D /srv/data/db -w -t 600 -m immediate stop >/dev/null; }
query() { as_postgres psql -qAt -h /tmp -c "$1" postgres; }

# Numbers 1, 2, 3, ... from the one given on: each is inserted when the one before is acknowledged.
insert_in_order() {
  local n answer
  coproc client { as_postgres psql -qAt -v ON_ERROR_STOP=1 -h /tmp postgres 2>/dev/null; }
  for ((n = $1; ; n++)); do
    printf 'insert into numbers values (%d);\n\\echo %d\n' "$n" "$n" >&"${client[1]}"
    read -r answer <&"${client[0]}"
    [ "$answer" = "$n" ]
    echo "$n" >$acked.new
    mv $acked.new $acked
  done
}

# provider_of_data PROVIDER: the agent runs with it.
provider_of_data() {
  cat >/etc/stillpoint/agent.toml <<END
store = "$store"

[[device]]
name = "data"
path = "/dev/vg/data"
provider = "$1"

[[device]]
name = "wal"
path = "/dev/vdc"
provider = "tap"

[[group]]
name = "db"
members = ["data", "wal"]
# An emulated machine may need longer than half a second for each.
freeze-deadline = 10
END
  "$stillpoint" agent run >/tmp/agent.log 2>&1 &
  agent=$!
  wait_until test -S /run/stillpoint/agent.sock
}

# restored_database FIRST LAST: the last group point has all numbers up to one of these.
restored_database() {
  local found
  rm -f "$images"/*
  "$stillpoint" --quiet restore db@latest "data=$images/data" "wal=$images/wal" --store "$store" || fail restore
  stop_database
  umount /srv/data /srv/wal
  for member in data wal; do
    e2fsck -fy "$images/$member" >/dev/null || [ $? = 1 ] || fail "the file system of $member"
    mount -o loop "$images/$member" "/srv/$member"
  done
  start_database
  found=$(query 'select coalesce(max(n), 0), count(*) from numbers')
  echo "   numbers up to ${found%|*}, acknowledged before: $1, after: $2"
  expect 'holes' 0 $((${found%|*} - ${found#*|}))
  [ "${found%|*}" -ge "$1" ] && [ "${found%|*}" -le $(($2 + 1)) ] || fail 'they are not those of the instant'
  query 'select count(*) from pgbench_accounts' >/dev/null || fail 'a table can not be read'
  stop_database
  umount /srv/data /srv/wal
  mount /dev/vg/data /srv/data
  mount "$wal" /srv/wal
  start_database
}

systemctl stop postgresql || true
install_unit
pvcreate -q /dev/vdb
vgcreate -q vg /dev/vdb
lvcreate -q -y -L 400M -n data vg
"$stillpoint" --quiet tap add /dev/vdc --name wal --attach >/dev/null || fail 'tap add'
wal=/run/stillpoint/taps/wal/device
mkfs.ext4 -q /dev/vg/data
mkfs.ext4 -q "$wal"
mount /dev/vg/data /srv/data
mount "$wal" /srv/wal
install -d -o postgres /srv/data/db /srv/wal/log
as_postgres "$pg/initdb" -D /srv/data/db --waldir=/srv/wal/log >/dev/null || fail initdb
start_database
query 'create table numbers (n integer primary key)'
as_postgres "$pg/pgbench" -q -i -s 2 -h /tmp postgres 2>/dev/null || fail pgbench

for provider in lvm live; do
  say "the tables by $provider, the log by a tap"
  provider_of_data "$provider"
  as_postgres "$pg/pgbench" -n -c 2 -R 20 -T 3000 -h /tmp postgres >/dev/null 2>&1 &
  bench=$!
  insert_in_order "$(query 'select coalesce(max(n), 0) + 1 from numbers')" &
  writer=$!
  for round in first second; do
    rm -f $acked
    wait_until test -e $acked
    first=$(cat $acked)
    result=$("$stillpoint" --json backup --now db) || fail "backup: $result $(tail -5 /tmp/agent.log)"
    last=$(cat $acked)
    expect "kind of the $round" filesystem "$(field "['members'][0]['point']['kind']" <<<"$result")"
    expect 'members' "data wal" "$(field "['members'][0]['point']['device']" <<<"$result") $(field "['members'][1]['point']['device']" <<<"$result")"
  done
  kill $writer $bench
  wait $writer $bench || true
  restored_database "$first" "$last"
  kill $agent
  wait $agent || true
done

say 'passed: groups'
