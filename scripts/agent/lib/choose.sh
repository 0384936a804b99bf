# shellcheck shell=bash
# Selects the agents of a unified dispatch. Sourced by unified.sh.

# shellcheck disable=SC2034 # AGENTS is read by the caller
# choose NAMES: sets AGENTS to the comma-separated names, or to all agents for `all`. For the run kind `blueprint` and for the name of a
# repository in repos it sets AGENTS to default_agents and adds the options of each run to HEAD.
choose() {
  local name known=(claude codex gemini grok aider) names=$1
  if [[ $1 == blueprint ]]; then
    HEAD+=(--kind blueprint)
    names=$(default_agents)
  elif [[ $1 =~ ^[A-Za-z0-9._-]+$ && -e $DISPATCH_HOME/repos/$1/.git ]]; then
    HEAD+=(--repo "$DISPATCH_HOME/repos/$1")
    names=$(default_agents)
  fi
  [[ -n $names || -z $1 ]] || fail 69 "no agent is installed and has a key" "set DISPATCH_AGENTS, or name one agent instead of $1 to see what it lacks"
  if [[ $names == all ]]; then AGENTS=("${known[@]}"); else IFS=, read -ra AGENTS <<<"$names"; fi
  ((${#AGENTS[@]})) || fail 64 "no agent given" "use ${known[*]}"
  for name in "${AGENTS[@]}"; do
    [[ " ${known[*]} " == *" $name "* ]] ||
      fail 64 "unknown agent \"$name\"" "use ${known[*]}, the run kind blueprint, or a repository in $DISPATCH_HOME/repos"
  done
  [[ -z $(printf '%s\n' "${AGENTS[@]}" | sort | uniq -d) ]] || fail 64 "duplicate agent in $1" "name each agent once"
}

# default_agents: prints DISPATCH_AGENTS, or all agents that are installed and have a key, separated by commas.
default_agents() {
  load_env
  [[ -z ${DISPATCH_AGENTS:-} ]] || { printf '%s\n' "$DISPATCH_AGENTS"; return; }
  local name
  for name in "${known[@]}"; do if (agent_ready "$name") 2>/dev/null; then printf '%s\n' "$name"; fi; done | paste -sd,
}
