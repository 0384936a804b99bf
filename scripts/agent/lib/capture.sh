# shellcheck shell=bash
# run_with_capture, for whoever sources it: sets no options of its caller and changes none.

# run_with_capture LOG STATUS COMMAND...
# Runs a command, or a function, in this shell. What it says goes to standard output as it comes, and into LOG; its exit code goes into
# STATUS and is returned, 128 and the signal's number if it was killed. Both files are new. What cannot be written into LOG (a full disk)
# is told and changes nothing else.
run_with_capture() {
  local _capture_log=$1 _capture_status=$2 _capture_code=0 _capture_pipe _capture_tee _capture_tries=0
  shift 2
  # Whoever ends the command ends it alone: its last words are still written.
  exec {_capture_pipe}> >(
    trap '' HUP INT TERM
    exec tee --output-error=warn -- "$_capture_log"
  )
  _capture_tee=$!
  # It ignores signals before it becomes tee; a command that ends its whole group at once must not be faster.
  while [[ -d /proc/$_capture_tee && $(<"/proc/$_capture_tee/comm") != tee ]] && ((_capture_tries++ < 500)); do
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
