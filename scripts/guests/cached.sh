#!/bin/bash
# cached.sh DRAFT FINAL RECIPE [ARGUMENT]...: runs `RECIPE FOLDER ARGUMENT...` with a new folder, DRAFT and a suffix, and renames
# it to FINAL when the recipe succeeded. Run under a lock of the drafts of this name, so that a second run finds the result.
set -euo pipefail

# A function, since bash reads a script while it runs: an update of this file must not affect a running build.
main() {
  local draft=$1 final=$2 recipe=$3
  shift 3
  [ ! -d "$final" ] || return 0
  # This process has the lock, so an existing draft was left by a build that was killed.
  rm -rf "$draft".*
  folder=$(mktemp -d "$draft.XXXXXX")
  trap 'rm -rf "$folder"' EXIT
  "$recipe" "$folder" "$@"
  chmod 755 "$folder"
  mv -T "$folder" "$final"
}

main "$@"
exit
