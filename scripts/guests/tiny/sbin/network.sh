#!/bin/sh
# network.sh NIC: the address that the seed has for this interface, else whatever DHCP says (in the background).
nic=$1
ip link set "$nic" up
mac=$(cat "/sys/class/net/$nic/address")
# JSON without blanks; from this interface's address to where the next interface begins.
mine=$(tr -d ' \n\t' 2>/dev/null < /cidata/network-config |
  sed -n "s/.*\"mac_address\":\"$mac\"//p" | sed 's/"mac_address":.*//')
# The subnets of an interface are an object each.
of() { echo "$mine" | tr '{' '\n' | sed -n "/\"type\":\"$1\"/s/.*\"$2\":\"\([^\"]*\)\".*/\1/p"; }
address=$(of static address)
if [ -z "$address" ]; then
  udhcpc -i "$nic" -s /sbin/udhcpc.sh -b -q -t 20 -T 1 -O mtu -x "hostname:$(hostname)" >/dev/null 2>&1 &
  exit 0
fi
mtu=$(echo "$mine" | sed -n 's/.*"mtu":\([0-9]*\).*/\1/p')
gateway=$(of static gateway)
address6=$(of static6 address)
gateway6=$(of static6 gateway)
servers=$(echo "$mine" | sed -n 's/.*"dns_nameservers":\[\([^]]*\)\].*/\1/p' | tr -d '"' | tr , ' ')
[ -z "$mtu" ] || ip link set "$nic" mtu "$mtu"
ip addr add "$address" dev "$nic"
[ -z "$gateway" ] || ip route add default via "$gateway" dev "$nic"
if [ -n "$address6" ]; then
  # Nothing else has the address, and the guest does not wait until it has asked.
  echo 0 > "/proc/sys/net/ipv6/conf/$nic/accept_dad"
  ip -6 addr add "$address6" dev "$nic"
  [ -z "$gateway6" ] || ip -6 route add default via "$gateway6" dev "$nic"
fi
for server in $servers; do echo "nameserver $server"; done >> /etc/resolv.conf
echo "static" > "/run/mode.$nic"
echo "GUEST-STATIC $nic ${address%/*}"
