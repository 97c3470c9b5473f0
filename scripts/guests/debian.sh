#!/bin/bash
# debian.sh OUT [SUITE]: a full Debian guest with systemd, cloud-init, sshd and the guest agent, trimmed to boot fast under
# emulation; of the host's release, or of another one. Leaves OUT/disk.qcow2 (MBR; a FAT boot partition with syslinux, an ext4
# root), OUT/vmlinuz and OUT/initrd. networkd and systemd-resolved serve its network, and what else can is installed for a
# kernel's command line to start (test/support/network-ways.ts); bullseye has ifupdown alone, as its release had.
# Packages come from where this host's apt takes Debian's. Needs root: the tree has its owners.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")") out=$1
PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || { echo "the debian guest can only be built by root" >&2; exit 1; }
work=$(mktemp -d "$out/work.XXXXXX")
root=$work/root
mkdir "$root"

format='$(ORIGIN)|$(CODENAME)|$(SIGNED_BY)|$(REPO_URI) $(RELEASE) $(COMPONENT)'
apt-get indextargets 'Created-By: Packages' --format "$format" | awk -F'|' '$1 == "Debian"' > "$work/indexes"
# An apt before 2.7 leaves a field it does not know as it stands; then Debian's own keys are what it checked with.
awk -F'|' '{key = $3 ~ /^\// ? "[signed-by=" $3 "] " : ""; print "deb " key $4}' "$work/indexes" | sort -u > "$work/sources.list"
own=$(awk -F'|' '{print $2}' "$work/indexes" | sed 's/-.*//' | sort | uniq -c | sort -rn | awk 'NR == 1 {print $2}')
[ -n "$own" ] || { echo "apt knows no Debian packages here: run apt-get update" >&2; exit 1; }
suite=${2:-$own}
if [ "$suite" != "$own" ]; then
  mirror=$(awk -F'|' '$2 !~ /-/ {split($4, field, " "); print field[1]; exit}' "$work/indexes")
  echo "deb $mirror $suite main" > "$work/sources.list"
fi

echo "installing Debian $suite into a folder (a minute or two)"
cat > "$work/setup.sh" << 'SETUP'
set -eu
cd "$1"
printf 'MODULES=list\nCOMPRESS=zstd\n' > etc/initramfs-tools/conf.d/guest
printf '%s\n' virtio_pci virtio_blk virtio_net virtio_scsi sd_mod >> etc/initramfs-tools/modules
chroot . update-initramfs -u -k all
echo 'LABEL=root / ext4 defaults,noatime 0 0' > etc/fstab
echo debian > etc/hostname
: > etc/machine-id
cp "$2" etc/cloud/cloud.cfg.d/99_guest.cfg
chroot . systemctl enable serial-getty@ttyS0
if [ -d etc/netplan ]; then
  ln -sf ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf
  chroot . systemctl enable systemd-networkd systemd-resolved
  chroot . systemctl disable networking NetworkManager NetworkManager-wait-online
else
  : > etc/resolv.conf
fi
for unit in $(cat "$3"); do ln -sf /dev/null "etc/systemd/system/$unit"; done
mkdir -p etc/systemd/system-generators
for kind in cryptsetup gpt-auto hibernate-resume integritysetup rc-local system-update veritysetup; do
  ln -s /dev/null "etc/systemd/system-generators/systemd-$kind-generator"
done
# By the features of its processor a guest would load KVM and ciphers.
echo 'SUBSYSTEM=="cpu", ENV{MODALIAS}=""' > etc/udev/rules.d/50-no-cpu-modules.rules
rm -rf var/lib/apt/lists/* var/cache/apt/* var/log/*.log etc/ssh/ssh_host_*
SETUP
include=linux-image-cloud-amd64,systemd-sysv,udev,dbus,cloud-init,qemu-guest-agent,openssh-server
include=$include,iproute2,netbase,ca-certificates,initramfs-tools,zstd,tzdata,sudo,ifupdown,isc-dhcp-client
[ "$suite" = bullseye ] || include=$include,systemd-resolved,netplan.io,network-manager
nodocs=()
for place in man doc locale info; do nodocs+=("--dpkgopt=path-exclude=/usr/share/$place/*"); done
mmdebstrap --quiet --keyring=/usr/share/keyrings --variant=minbase --include="$include" "${nodocs[@]}" \
  --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
  --customize-hook="sh '$work/setup.sh' \"\$1\" '$here/debian-cloud.cfg' '$here/debian-masked.txt'" \
  "$suite" "$work/root.tar" "$work/sources.list"

echo "writing the disk"
tar -C "$root" -xf "$work/root.tar" --exclude='./dev/*'
install -m 644 "$root"/boot/vmlinuz-* "$out/vmlinuz"
install -m 644 "$root"/boot/initrd.img-* "$out/initrd"
boot=64 system=900 # MiB
truncate -s ${boot}M "$work/boot"
mformat -i "$work/boot" -T $((boot * 2048)) -h 64 -s 32 -H 2048 -v BOOT ::
cat > "$work/syslinux.cfg" << CFG
SERIAL 0 115200
DEFAULT debian
PROMPT 0
TIMEOUT 0
LABEL debian
 KERNEL /vmlinuz
 INITRD /initrd
 APPEND root=LABEL=root ro $(cat "$here/debian.cmdline")
CFG
mcopy -i "$work/boot" "$out/vmlinuz" "$out/initrd" "$work/syslinux.cfg" ::/
mke2fs -q -t ext4 -L root -O ^has_journal -E lazy_itable_init=1,nodiscard -d "$root" "$work/system" ${system}M
truncate -s $((boot + system + 2))M "$work/disk"
printf 'label: dos\nstart=2048, size=%d, type=e, bootable\nstart=%d, size=%d, type=83\n' \
  $((boot * 2048)) $(((boot + 1) * 2048)) $((system * 2048)) | sfdisk -q "$work/disk"
dd if="$work/boot" of="$work/disk" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$work/system" of="$work/disk" bs=1M seek=$((boot + 1)) conv=notrunc,sparse status=none
dd if=/usr/lib/syslinux/mbr/mbr.bin of="$work/disk" bs=440 count=1 conv=notrunc status=none
syslinux --install --offset $((1024 * 1024)) "$work/disk"
qemu-img convert -f raw -O qcow2 "$work/disk" "$out/disk.qcow2"
rm -rf "$work"
