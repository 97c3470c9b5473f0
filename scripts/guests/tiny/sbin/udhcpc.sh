#!/bin/sh
# What udhcpc calls with its findings in the environment.
case $1 in
  deconfig)
    ip addr flush dev "$interface"
    ip link set "$interface" up
    ;;
  bound | renew)
    ip addr flush dev "$interface"
    [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
    ip addr add "$ip/${mask:-24}" dev "$interface"
    [ -z "$router" ] || ip route add default via "${router%% *}" dev "$interface"
    for server in $dns; do echo "nameserver $server"; done > /etc/resolv.conf
    echo "dhcp lease=$lease server=$serverid" > "/run/mode.$interface"
    [ ! -f /www/status.txt ] || /sbin/status.sh > /www/status.txt
    echo "GUEST-DHCP $interface $ip" > /dev/ttyS0
    ;;
esac
