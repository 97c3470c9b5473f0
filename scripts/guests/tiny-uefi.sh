#!/bin/bash
# tiny-uefi.sh OUT TINY: the tiny guest of folder TINY on a disk that UEFI boots: GPT, an EFI system partition, systemd-boot.
# Leaves OUT/disk.raw and OUT/disk.qcow2.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")") out=$1 tiny=$2
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d "$out/work.XXXXXX")

echo "fetching systemd-boot-efi"
(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download systemd-boot-efi)
dpkg-deb -x "$work"/*.deb "$work/tree"

echo "writing the disk"
size=$((($(stat -c %s "$tiny/vmlinuz") + $(stat -c %s "$tiny/initrd")) / 1048576 + 8))
mebibyte=1048576
truncate -s "${size}M" "$work/esp"
mformat -i "$work/esp" -T $((size * 2048)) -h 16 -s 63 -H 2048 -v EFI ::
mmd -i "$work/esp" ::/EFI ::/EFI/BOOT ::/loader ::/loader/entries
mcopy -i "$work/esp" "$work/tree/usr/lib/systemd/boot/efi/systemd-bootx64.efi" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$work/esp" "$tiny/vmlinuz" "$tiny/initrd" ::/
printf 'timeout 0\ndefault tiny.conf\n' > "$work/loader.conf"
printf 'title Tiny\nlinux /vmlinuz\ninitrd /initrd\noptions %s\n' "$(cat "$here/tiny.cmdline")" > "$work/tiny.conf"
mcopy -i "$work/esp" "$work/loader.conf" ::/loader/
mcopy -i "$work/esp" "$work/tiny.conf" ::/loader/entries/
truncate -s "$((size + 2))M" "$out/disk.raw"
printf 'label: gpt\nstart=2048, size=%d, type=uefi\n' $((size * 2048)) | sfdisk -q "$out/disk.raw"
dd if="$work/esp" of="$out/disk.raw" bs=$mebibyte seek=1 conv=notrunc,sparse status=none
qemu-img convert -f raw -O qcow2 "$out/disk.raw" "$out/disk.qcow2"
rm -rf "$work"
