#!/bin/sh
# The power button, and `shutdown`: the guest says that it goes, then goes.
echo "GUEST-POWEROFF $(cut -d' ' -f1 /proc/uptime)" > /dev/ttyS0
sync
poweroff -f
