# shellcheck shell=bash
# run_with_capture. Sourced; does not change the options of its caller.

# capture_to LOG: copies standard input to standard output and LOG; each continues if the other fails. A second process applies the size
# limit to LOG only, because standard output may be a file as well.
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
    printf 'run_with_capture: %s reached %s MiB and is truncated\n' "$1" "$CAPTURE_MIB" >&2
  fi
}

# run_with_capture LOG STATUS COMMAND...
# Runs a command or function in this shell. Writes its output to standard output and LOG as it arrives, writes its exit code (128 + n
# after signal n) to STATUS and returns it. Both files are new. If LOG cannot be written (full disk) or reaches CAPTURE_MIB MiB (default
# unlimited), prints a message and continues.
run_with_capture() {
  local _capture_log=$1 _capture_status=$2 _capture_code=0 _capture_pipe _capture_tee _capture_tries=0
  shift 2
  # Ignore signals here, so that the last output of a terminated command is still written.
  exec {_capture_pipe}> >(
    trap '' HUP INT TERM
    capture_to "$_capture_log"
  )
  _capture_tee=$!
  # Wait until the writer ignores signals 1, 2 and 15 (proc_pid_status(5)), because the command may signal the whole group at once.
  while kill -0 "$_capture_tee" && ((_capture_tries++ < 500)); do
    [[ $(<"/proc/$_capture_tee/status") =~ SigIgn:[[:space:]]*([0-9a-f]+) ]] || break
    if (((16#${BASH_REMATCH[1]} & 0x4003) == 0x4003)); then break; fi
    sleep 0.01
  done 2>/dev/null
  _capture_tries=0
  "$@" >&"$_capture_pipe" 2>&1 || _capture_code=$?
  exec {_capture_pipe}>&-
  # Wait until all output is written, for at most 5 s, because a background process may keep the pipe open.
  while kill -0 "$_capture_tee" 2>/dev/null && ((_capture_tries++ < 100)); do sleep 0.05; done
  if ! { printf '%s\n' "$_capture_code" >|"$_capture_status.new"; } 2>/dev/null ||
    ! mv -f -- "$_capture_status.new" "$_capture_status" 2>/dev/null; then
    printf 'run_with_capture: the status %s cannot be written to %s\n' "$_capture_code" "$_capture_status" >&2
    rm -f -- "$_capture_status.new" 2>/dev/null || :
  fi
  return "$_capture_code"
}
