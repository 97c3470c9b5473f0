#!/bin/bash
# cached.sh FINAL RECIPE [ARGUMENT]...: runs `RECIPE FOLDER ARGUMENT...` with a fresh folder and calls that FINAL when the
# recipe succeeded. Run under flock, so that whoever comes second finds the work done.
set -euo pipefail
final=$1 recipe=$2
shift 2
[ ! -d "$final" ] || exit 0
# The lock is ours, so a draft of this recipe that is there was left by a build that got killed.
draft=$(dirname "$final")/.draft-$(basename "$recipe" .sh)
rm -rf "$draft".*
folder=$(mktemp -d "$draft.XXXXXX")
trap 'rm -rf "$folder"' EXIT
"$recipe" "$folder" "$@"
chmod 755 "$folder"
mv -T "$folder" "$final"
