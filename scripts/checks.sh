# Shared by test and test-quick: checks and suites of tests that are counted, and the end that tells the sums.
# To be sourced after common.sh.

passed=0
failed=0
logs_with_failures=()

# check step|finish TEXT [COMMAND...]: counts as one.
check() {
  if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

# suite step|finish TEXT COUNTS [COMMAND...]: COUNTS reads the log and prints "PASSED FAILED". No counts, or
# an error that no count tells of, is one more failure.
suite() {
  local how=$1 text=$2 counts=$3 ok=0 bad=0 status=0
  shift 3
  "$how" "$text" "$@" || status=$?
  read -r ok bad < <("$counts" <"$(log_of "$text")") || true
  if [ $((ok + bad)) = 0 ] || { [ "$status" != 0 ] && [ "$bad" = 0 ]; }; then bad=$((bad + 1)); fi
  [ "$bad" = 0 ] || logs_with_failures+=("$(log_of "$text")")
  printf '    %d passed, %d failed here\n' "$ok" "$bad"
  passed=$((passed + ok))
  failed=$((failed + bad))
}

doctest_counts() {
  sed -nE 's/^\[doctest\] test cases: +[0-9]+ \| +([0-9]+) passed \| +([0-9]+) failed.*/\1 \2/p' |
    awk '{ ok += $1; bad += $2 } END { print ok + 0, bad + 0 }'
}

tap_counts() {
  awk '/^# pass /{ ok += $3 } /^# fail /{ bad += $3 } END { print ok + 0, bad + 0 }'
}

# What failed and why, for those who see only the end of all that: every TAP test that is "not ok", with the
# lines that tell the reason.
show_failures() {
  awk '/^ok/ { left = 0 } /^not ok/ { left = ++count <= 20 ? 60 : 1 } left > 0 { print "    " $0; left-- }' "$@"
}

# The end of a run: what failed and why, and the line "N passed, N failed". Its status is that of the run.
tell_sums() {
  give_back
  if [ ${#logs_with_failures[@]} -gt 0 ]; then
    echo
    show_failures "${logs_with_failures[@]}"
  fi
  echo
  printf '%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" = 0 ]
}
