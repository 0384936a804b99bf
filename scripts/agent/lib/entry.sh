# shellcheck shell=bash
# Who runs: as root, nothing is done but to become the unprivileged user, before any file is read that this user can write.
# Sourced by every dispatch script, first; sets no options of its caller.

# say TEXT: a line for whoever reads standard error, if somebody still does.
say() { printf 'dispatch: %s\n' "$1" >&2 2>/dev/null || :; }

# fail CODE MESSAGE HINT: ends with one of the exit codes that `--help` lists (sysexits.h).
fail() {
  say "$2"$'\n'"  $3"
  exit "$1"
}

# What passes from root's environment to the agent, and nothing else: its keys, where its service is, proxies, language, our settings.
readonly PASSES=(
  ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL ANTHROPIC_MODEL CLAUDE_CODE_OAUTH_TOKEN
  OPENAI_API_KEY OPENAI_BASE_URL CODEX_API_KEY GEMINI_API_KEY GOOGLE_API_KEY GEMINI_MODEL
  XAI_API_KEY GROK_CODE_XAI_API_KEY OPENROUTER_API_KEY AIDER_MODEL
  GITHUB_TOKEN GH_TOKEN HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy
  LANG LC_ALL LC_CTYPE TZ TERM DISPATCH_HOME DISPATCH_TIMEOUT DISPATCH_GRACE
)

# writable_by_others FILE: the first of the file and the folders above it that somebody besides root can write.
writable_by_others() {
  local path=$1
  while :; do
    if [[ $(stat -c %u -- "$path") != 0 || -n $(find "$path" -maxdepth 0 -perm /022 ! -perm -1000) ]]; then
      printf '%s\n' "$path"
      return 0
    fi
    [[ $path != / ]] || return 1
    path=${path%/*}
    path=${path:-/}
  done
}

# enter SCRIPT ARGS...: as root, goes on as the user in the same process. Standard streams that are closed are opened in any case, so that
# no file becomes one of them.
enter() {
  [[ -e /proc/$$/fd/0 ]] || exec </dev/null
  [[ -e /proc/$$/fd/1 ]] || exec >/dev/null
  [[ -e /proc/$$/fd/2 ]] || exec 2>/dev/null
  ((EUID == 0)) || return 0
  export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  local script=$1 user=${DISPATCH_USER:-ubuntu} entry uid gid home shell theirs
  shift
  entry=$(getent passwd -- "$user") || fail 67 "there is no user $user to work as" "DISPATCH_USER names another"
  IFS=: read -r _ _ uid gid _ home shell <<<"$entry"
  ((uid != 0)) || fail 67 "$user is root" "DISPATCH_USER names a user without privileges"
  if theirs=$(writable_by_others "$script") || theirs=$(writable_by_others "${BASH_SOURCE[0]}"); then
    fail 77 "$theirs can be written by others than root, so root runs nothing of it" "install the scripts anew: install.sh"
  fi

  # Names alone are said on a command line, which everybody can read. From what the kernel was told: bash keeps names to itself
  # that are none of its own, such as exported functions.
  local name drop=()
  while IFS='=' read -r -d '' name _; do
    [[ " ${PASSES[*]} " == *" $name "* ]] || drop+=(-u "$name")
  done <"/proc/$$/environ"

  # What root has open is not the agent's.
  local fd
  for fd in "/proc/$$/fd/"*; do
    fd=${fd##*/}
    if ((fd > 2 && fd != 255)); then eval "exec $fd>&-"; fi
  done

  local set=(HOME="$home" USER="$user" LOGNAME="$user" SHELL="$shell" PATH="${DISPATCH_PATH:+$DISPATCH_PATH:}$home/.local/bin:/usr/local/bin:/usr/bin:/bin")
  local drop_to=(--reuid "$uid" --regid "$gid" --init-groups --inh-caps=-all --ambient-caps=-all)
  # Ubuntu's cloud images let ubuntu become root without a password; an agent that root sent must not.
  [[ ${DISPATCH_ALLOW_SUDO:-} == 1 ]] || drop_to+=(--no-new-privs --bounding-set=-all)
  umask 022
  say "root becomes $user"
  # By its whole name: env would look for it in the user's PATH, where the user can have put another.
  local setpriv
  setpriv=$(command -v setpriv) || fail 69 "setpriv is not installed" "apt-get install util-linux"
  exec env "${drop[@]}" "${set[@]}" "$setpriv" "${drop_to[@]}" -- /bin/bash -p -- "$script" "$@"
}
