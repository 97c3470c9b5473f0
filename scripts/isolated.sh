#!/bin/bash
# isolated.sh PROGRAM [ARGUMENT]...: runs a program in namespaces of its own, where it can change neither the host's links,
# rules, mounts and control groups nor its processes. Bash is process 1 there, so orphans are reaped, and when it ends the
# kernel ends the remaining processes. Everything that remains is reported first, and is a failure.
set -euo pipefail

# Version 1 hierarchies get a group of ours, which the control group namespace makes the root inside. Nomad's own groups
# have the same names for all agents of a machine, and a group that a killed agent left there breaks every other agent.
# In version 2 that can't be done from here: a group with processes in it, like the root, may not have controlled children.
hierarchies() { awk '$3 == "cgroup" {print $2}' /proc/self/mounts; }

if [ "${1-}" != --inside ]; then
  group=isolated-$$
  leave() {
    local hierarchy
    while read -r hierarchy; do
      [ -d "$hierarchy/$group" ] || continue
      echo $$ > "$hierarchy/cgroup.procs"
      # Killed processes need a moment to end.
      for _ in 1 2 3 4 5 6 7 8 9 10; do
        ! find "$hierarchy/$group" -depth -type d -exec rmdir {} + 2> /dev/null || break
        sleep 0.1
      done
    done < <(hierarchies)
  }
  trap leave EXIT
  while read -r hierarchy; do
    mkdir "$hierarchy/$group" 2> /dev/null || continue
    # A new set of processors is empty, and accepts no process until it is set.
    for file in cpuset.cpus cpuset.mems; do
      [ ! -e "$hierarchy/$file" ] || cat "$hierarchy/$file" > "$hierarchy/$group/$file"
    done
    echo $$ > "$hierarchy/$group/cgroup.procs"
  done < <(hierarchies)
  code=0
  unshare --net --mount --pid --cgroup --fork --kill-child --mount-proc --propagation private \
    "$0" --inside "$@" || code=$?
  exit "$code"
fi
shift

# All of these steps are necessary for isolation: set -e stops at the first failure.
ip link set lo up
# sysfs shows the links of the network namespace it was mounted in; what is mounted below it has to be mounted again.
mapfile -t below < <(awk '$2 ~ "^/sys/fs/cgroup/" && $3 == "cgroup" {print $2, $4}' /proc/self/mounts)
carry=$(mktemp -d)
mount --rbind /sys/fs/cgroup "$carry"
mount -t sysfs sysfs /sys
mount --rbind "$carry" /sys/fs/cgroup
umount -l "$carry"
rmdir "$carry"
for line in "${below[@]}"; do
  options=$(tr , '\n' <<< "${line#* }" | grep -vE '^(rw|ro|relatime|nosuid|nodev|noexec)$' | paste -sd,)
  umount "${line% *}"
  mount -t cgroup -o "$options" cgroup "${line% *}"
done
# A /run of our own: it has the names of namespaces, sockets and locks, and no process outside can remove it.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock /run/nomad-driver-qmp

state() {
  echo "link:       $(ip -o link | awk -F': ' '{print $2}' | sort | tr '\n' ' ')"
  nft list ruleset | sed 's/^/nftables:   /'
  ls -A /run/netns | sed 's/^/namespace:  /'
  ls -A /run/nomad-driver-qmp 2> /dev/null | sed 's/^/run folder: /'
  awk '{print "mount:      " $5}' /proc/self/mountinfo | sort
}

processes() {
  local pid command
  for pid in /proc/[0-9]*; do
    command=$(tr '\0' ' ' 2> /dev/null < "$pid/cmdline" | cut -c1-200) || continue
    # Zombies have no command line; this shell and its forks do not count.
    case $command in '' | *isolated.sh\ --inside*) continue ;; esac
    echo "process:    ${pid#/proc/} $command"
  done
}

# For tests that would harm a real host, and for programs that need a host with an address: the link leads nowhere.
export QMP_ISOLATED=1
ip link add uplink0 type veth peer name nowhere0
ip addr add 192.0.2.2/24 dev uplink0
ip link set uplink0 up
ip link set nowhere0 up
ip route add default via 192.0.2.1

before=$(state)
code=0
"$@" || code=$?

# A process that was signalled may need a moment.
for _ in 1 2 3 4 5 6 7 8 9 10; do
  left=$(processes)
  [ -n "$left" ] || break
  sleep 0.3
done
# Removed mounts are not reported: a process outside may have removed what they were on.
changes=$(diff -U0 <(echo "$before") <(state; [ -z "$left" ] || echo "$left") | grep -E '^(\+[^+]|-[^-])' | grep -v '^-mount:' || true)
if [ -n "$changes" ]; then
  echo "!!! the program left changes (- before, + after):" >&2
  echo "$changes" >&2
  [ "$code" -ne 0 ] || code=1
fi
exit "$code"
