#!/bin/sh
# An nbdkit plugin (sh): serves the file $IMAGE; reads that touch a range listed in the file $BAD
# ("offset length" per line) fail.
set -eu
case "$1" in
  get_size) stat -c %s "$IMAGE" ;;
  can_write) exit 3 ;;
  thread_model) echo parallel ;;
  pread)
    if [ -e "$BAD" ]; then
      while read -r offset length; do
        if [ "$4" -lt $((offset + length)) ] && [ $(($4 + $3)) -gt "$offset" ]; then
          echo 'EIO bad sector' >&2
          exit 1
        fi
      done < "$BAD"
    fi
    exec dd if="$IMAGE" iflag=skip_bytes,count_bytes skip="$4" count="$3" bs=256k status=none
    ;;
  *) exit 2 ;;
esac
