# shellcheck shell=bash
# run_with_capture, for whoever sources it: sets no options of its caller and changes none.

# capture_to LOG: standard input to standard output and LOG; each goes on when the other fails. A limit for the size of files would be one
# for standard output, too, which can be a file.
capture_to() {
  local log writer
  [[ -n ${CAPTURE_MIB:-} ]] || exec tee --output-error=warn -- "$1"
  exec {log}> >(
    trap '' XFSZ
    ulimit -f "$((CAPTURE_MIB * 1024))"
    exec tee --output-error=warn -- "$1" >/dev/null
  )
  writer=$!
  tee --output-error=warn -- "/dev/fd/$log" || :
  exec {log}>&-
  wait "$writer" || :
  if [[ $(stat -c %s -- "$1" 2>/dev/null) == "$((CAPTURE_MIB * 1024 * 1024))" ]]; then
    printf 'run_with_capture: %s has its %s MiB; what came after is not in it\n' "$1" "$CAPTURE_MIB" >&2
  fi
}

# run_with_capture LOG STATUS COMMAND...
# Runs a command, or a function, in this shell. What it says goes to standard output as it comes, and into LOG; its exit code goes into
# STATUS and is returned, 128 and the signal's number if it was killed. Both files are new. What cannot be written into LOG (a full disk)
# is said and changes nothing else, and so does what goes beyond CAPTURE_MIB MiB (no limit without it).
run_with_capture() {
  local _capture_log=$1 _capture_status=$2 _capture_code=0 _capture_pipe _capture_tee _capture_tries=0
  shift 2
  # Whoever ends the command ends it alone: its last words are still written.
  exec {_capture_pipe}> >(
    trap '' HUP INT TERM
    capture_to "$_capture_log"
  )
  _capture_tee=$!
  # A command that ends its whole group at once must not be faster than that it ignores signals: 1, 2 and 15 (proc_pid_status(5)).
  while kill -0 "$_capture_tee" && ((_capture_tries++ < 500)); do
    [[ $(<"/proc/$_capture_tee/status") =~ SigIgn:[[:space:]]*([0-9a-f]+) ]] || break
    if (((16#${BASH_REMATCH[1]} & 0x4003) == 0x4003)); then break; fi
    sleep 0.01
  done 2>/dev/null
  _capture_tries=0
  "$@" >&"$_capture_pipe" 2>&1 || _capture_code=$?
  exec {_capture_pipe}>&-
  # Until all is written; but something left in the background may hold the other end for ever.
  while kill -0 "$_capture_tee" 2>/dev/null && ((_capture_tries++ < 100)); do sleep 0.05; done
  if ! { printf '%s\n' "$_capture_code" >|"$_capture_status.new"; } 2>/dev/null ||
    ! mv -f -- "$_capture_status.new" "$_capture_status" 2>/dev/null; then
    printf 'run_with_capture: the status %s cannot be written to %s\n' "$_capture_code" "$_capture_status" >&2
    rm -f -- "$_capture_status.new" 2>/dev/null || :
  fi
  return "$_capture_code"
}
