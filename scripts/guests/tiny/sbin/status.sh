#!/bin/sh
# What this guest knows of itself, one `key=value` a line.
echo "hostname=$(hostname)"
echo "uptime=$(cut -d' ' -f1 /proc/uptime)"
for nic in /sys/class/net/*; do
  nic=${nic##*/}
  [ "$nic" != lo ] || continue
  echo "nic=$nic mac=$(cat "/sys/class/net/$nic/address") mtu=$(cat "/sys/class/net/$nic/mtu")"
  ip -o addr show dev "$nic" | awk -v nic="$nic" '$3 ~ /^inet/ {print "address=" nic " " $4}'
  [ ! -f "/run/mode.$nic" ] || echo "configured=$nic $(cat "/run/mode.$nic")"
done
ip route | sed -n 's/^default /gateway=/p'
sed -n 's/^nameserver /nameserver=/p' /etc/resolv.conf
for place in /alloc /local /secrets; do
  awk -v place="$place" '$2 == place {print "mount=" $1 " " $2 " " $3 " " substr($4, 1, 2)}' /proc/mounts
done
echo "memory=$(awk '/^MemTotal/ {print $2}' /proc/meminfo) KiB"
echo "cpus=$(grep -c ^processor /proc/cpuinfo)"
echo "cmdline=$(cat /proc/cmdline)"
