#!/bin/bash
# cached.sh FINAL RECIPE [ARGUMENT]...: runs `RECIPE FOLDER ARGUMENT...` with a new folder and renames it to FINAL when the
# recipe succeeded. Run under flock, so that a second run finds the result.
set -euo pipefail

# A function, since bash reads a script while it runs: an update of this file must not affect a running build.
main() {
  local final=$1 recipe=$2 draft
  shift 2
  [ ! -d "$final" ] || return 0
  # This process has the lock, so an existing draft of this recipe was left by a build that was killed.
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
