#!/bin/bash
# tiny.sh OUT KERNEL: the tiny guest, Debian's cloud kernel with busybox, the guest agent and an sshd in an initramfs.
# Leaves OUT/vmlinuz, OUT/initrd, OUT/disk.raw and OUT/disk.qcow2 (one disk, booted by BIOS through syslinux).
# KERNEL is the kernel's version (6.1.0-56-cloud-amd64). Needs neither root nor loop devices.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")") out=$1 kernel=$2
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d "$out/work.XXXXXX")
root=$work/root

packages=("linux-image-$kernel" qemu-guest-agent dropbear-bin libtomcrypt1 libtommath1)
echo "fetching ${packages[*]}"
(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}")
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/tree"; done
tree=$work/tree

echo "putting the initramfs together"
mkdir -p "$root"/{bin,sbin,dev,proc,sys,run,tmp,root,cidata,www} "$root"/etc/acpi/PWRF "$root"/var/{run,log} \
  "$root"/lib/modules "$root"/lib/x86_64-linux-gnu "$root"/lib64 "$root"/usr/{bin,sbin}
ln -s ../lib "$root/usr/lib"
busybox=$(command -v busybox)
cp "$busybox" "$root/bin/busybox"
"$busybox" --list | while read -r applet; do
  [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
ln -s ../bin/busybox "$root/sbin/init"
cp -r "$here/tiny/." "$root/"
# acpid runs what it finds under the event's name.
cp "$root/sbin/poweroff.sh" "$root/etc/acpi/PWRF/00000080"
base64 -d "$here/udp-echo.b64" > "$root/sbin/udp-echo"
chmod 755 "$root/init" "$root"/sbin/{*.sh,shutdown,udp-echo} "$root/www/cgi-bin/status" "$root/etc/acpi/PWRF/00000080"

# Modules, each after those it needs. insmod takes plain files only.
depmod -b "$tree" "$kernel"
modules() {
  for module in "$@"; do
    modprobe -d "$tree" -S "$kernel" --show-depends "$module" | awk '$1 == "insmod" {print $2}'
  done | awk '!seen[$0]++' | while read -r file; do
    cp "$file" "$root/lib/modules/"
    echo "${file##*/}"
  done
}
modules virtio_pci virtio_mmio virtio_net virtio_blk virtio_console button evdev isofs virtio_scsi sd_mod sr_mod \
  virtio_rng virtio_balloon pvpanic-pci > "$root/lib/modules/order"
modules virtiofs > "$root/lib/modules/order.virtiofs"

programs=("$tree"/usr/sbin/{qemu-ga,dropbear} "$tree/usr/bin/dropbearconvert")
cp "${programs[@]}" "$root/usr/sbin/"
libraries=$(LD_LIBRARY_PATH=$tree/usr/lib/x86_64-linux-gnu ldd "${programs[@]}")
if grep 'not found' <<< "$libraries"; then
  echo "libraries are missing: install the dependencies of qemu-guest-agent and dropbear-bin" >&2
  exit 1
fi
awk '$2 == "=>" {print $3} $1 ~ /^\/lib64/ {print $1}' <<< "$libraries" | sort -u | while read -r library; do
  case $library in
    /lib64/*) cp -L "$library" "$root/lib64/" ;;
    *) cp -L "$library" "$root/lib/x86_64-linux-gnu/" ;;
  esac
done

(cd "$root" && find . -print0 | LC_ALL=C sort -z | cpio -0 -o -H newc --quiet --owner=0:0) |
  zstd -q -10 -o "$out/initrd"
install -m 644 "$tree/boot/vmlinuz-$kernel" "$out/vmlinuz"

echo "writing the disk"
# One FAT file system without a partition table: a BIOS boots it all the same.
size=$((($(stat -c %s "$out/vmlinuz") + $(stat -c %s "$out/initrd")) / 1048576 + 6))
truncate -s "${size}M" "$out/disk.raw"
mformat -i "$out/disk.raw" -T $((size * 2048)) -h 16 -s 63 -H 0 -v TINY ::
syslinux --install "$out/disk.raw"
cat > "$work/syslinux.cfg" << CFG
SERIAL 0 115200
DEFAULT tiny
PROMPT 0
TIMEOUT 0
LABEL tiny
 KERNEL /vmlinuz
 INITRD /initrd
 APPEND $(cat "$here/tiny.cmdline")
CFG
mcopy -i "$out/disk.raw" "$out/vmlinuz" "$out/initrd" "$work/syslinux.cfg" ::/
qemu-img convert -f raw -O qcow2 "$out/disk.raw" "$out/disk.qcow2"
rm -rf "$work"
