#!/bin/bash
# cached.sh FINAL RECIPE [ARGUMENT]...: runs `RECIPE FOLDER ARGUMENT...` with a fresh folder and calls that FINAL when the
# recipe succeeded. Run under flock, so that whoever comes second finds the work done.
set -euo pipefail

# A function, since bash reads a script as it goes: an update of this file during a long build must not reach it.
main() {
  local final=$1 recipe=$2 draft
  shift 2
  [ ! -d "$final" ] || return 0
  # The lock is ours, so a draft of this recipe that is there was left by a build that got killed.
  draft=$(dirname "$final")/.draft-$(basename "$recipe" .sh)
  rm -rf "$draft".*
  folder=$(mktemp -d "$draft.XXXXXX")
  trap 'rm -rf "$folder"' EXIT
  "$recipe" "$folder" "$@"
  chmod 755 "$folder"
  mv -T "$folder" "$final"
}

main "$@"
exit
