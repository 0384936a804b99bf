# shellcheck shell=bash
# Which agents several runs at once are. Sourced by unified.sh.

# shellcheck disable=SC2034 # AGENTS is read by the caller
# choose NAMES: sets AGENTS to what stands between the commas, to all for `all`, or for the kind of run `blueprint` and for the name of
# a repository below repos to DISPATCH_AGENTS, or those that are installed and have a key; HEAD gets what that means for each run.
choose() {
  local name known=(claude codex gemini grok aider) names=$1
  if [[ $1 == blueprint ]]; then
    HEAD+=(--kind blueprint)
    names=$(default_agents)
  elif [[ $1 =~ ^[A-Za-z0-9._-]+$ && -e $DISPATCH_HOME/repos/$1/.git ]]; then
    HEAD+=(--repo "$DISPATCH_HOME/repos/$1")
    names=$(default_agents)
  fi
  [[ -n $names || -z $1 ]] || fail 69 "no agent is installed and has a key" "name one instead of $1: it says what it lacks; or set DISPATCH_AGENTS"
  if [[ $names == all ]]; then AGENTS=("${known[@]}"); else IFS=, read -ra AGENTS <<<"$names"; fi
  ((${#AGENTS[@]})) || fail 64 "no agent" "known are ${known[*]}"
  for name in "${AGENTS[@]}"; do
    [[ " ${known[*]} " == *" $name "* ]] ||
      fail 64 "there is no agent \"$name\"" "known are ${known[*]}, the run kind blueprint, and repositories in $DISPATCH_HOME/repos"
  done
  [[ -z $(printf '%s\n' "${AGENTS[@]}" | sort | uniq -d) ]] || fail 64 "an agent stands twice in $1" "name each once"
}

# default_agents: what DISPATCH_AGENTS says, else all that are ready, with commas between.
default_agents() {
  load_env
  [[ -z ${DISPATCH_AGENTS:-} ]] || { printf '%s\n' "$DISPATCH_AGENTS"; return; }
  local name
  for name in "${known[@]}"; do if (agent_ready "$name") 2>/dev/null; then printf '%s\n' "$name"; fi; done | paste -sd,
}
