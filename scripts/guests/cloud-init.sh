#!/bin/bash
# cloud-init.sh OUT: cloud-init of every Debian release that still has users, for its renderers of network configurations.
# Leaves OUT/<version>/cloudinit for each, and what they import in OUT/needs. Packages come from where this host's apt takes
# Debian's, with lists of their own: nothing on the host is changed.
set -euo pipefail
out=$1
suites=(bullseye bookworm trixie sid)
# The release whose Python is that of the tests: its modules fit.
own=bookworm
needs=(python3-certifi python3-chardet python3-configobj python3-idna python3-requests python3-six python3-urllib3 python3-yaml)
work=$(mktemp -d "$out/work.XXXXXX")

mirror=$(apt-get indextargets 'Created-By: Packages' --format '$(ORIGIN)|$(CODENAME)|$(REPO_URI)' |
  awk -F'|' '$1 == "Debian" && $2 !~ /-/ {print $3; exit}')
[ -n "$mirror" ] || { echo "apt knows no Debian packages here: run apt-get update" >&2; exit 1; }
keys=/usr/share/keyrings/debian-archive-keyring.gpg
signed=$([ ! -e "$keys" ] || echo "[signed-by=$keys]")

# lists SUITE: fetches the suite's list of packages; from then on $APT_CONFIG makes apt-get know no other.
lists() {
  local apt=$work/$1
  mkdir -p "$apt"/{lists,cache}/partial
  echo "deb $signed $mirror $1 main" > "$apt/sources.list"
  cat > "$apt/apt.conf" << CONF
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$apt/lists";
Dir::State::Status "/dev/null";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Check-Valid-Until "false";
APT::Sandbox::User "root";
CONF
  export APT_CONFIG=$apt/apt.conf
  apt-get -qq update
}

# unpack FOLDER PACKAGE...: the Python modules of packages of the suite.
unpack() {
  local folder=$1 debs
  shift
  debs=$(mktemp -d "$work/debs.XXXXXX")
  (cd "$debs" && apt-get -qq download "$@")
  for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$debs/tree"; done
  mkdir -p "$folder"
  cp -r "$debs"/tree/usr/lib/python3/dist-packages/. "$folder/"
}

count=0
for suite in "${suites[@]}"; do
  echo "fetching cloud-init of $suite"
  if ! lists "$suite"; then
    echo "$suite can't be had from here"
    continue
  fi
  version=$(apt-cache show --no-all-versions cloud-init | awk '$1 == "Version:" {print $2}')
  unpack "$out/$version" cloud-init
  [ "$suite" != "$own" ] || unpack "$out/needs" "${needs[@]}"
  count=$((count + 1))
done
rm -rf "$work"
[ "$count" -ge 3 ] && [ -d "$out/needs" ] || { echo "only $count releases can be had from here" >&2; exit 1; }
