#!/bin/sh
# An sshd with the keys that the seed has for root. What a key may do, and from where, it does not look at.
seed=/cidata/vendor-data
umask 077
mkdir -p /root/.ssh
grep -o 'ssh-ed25519 [A-Za-z0-9+/=]* nomad-driver-qmp' $seed > /root/.ssh/authorized_keys
# JSON, in which a line break is \n as printf reads it.
printf '%b' "$(grep -o '"ed25519_private": *"[^"]*"' $seed | cut -d '"' -f 4)" > /run/host-key.pem
dropbearconvert openssh dropbear /run/host-key.pem /run/host-key 2> /dev/null
dropbear -r /run/host-key && echo "TINY-SSH"
