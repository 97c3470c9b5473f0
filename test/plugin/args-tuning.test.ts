import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readArgs } from '../../src/plugin/args/read-args.ts';

/** What lists of arguments ask for, without places. */
function wishesOf(...args: readonly string[]) {
  const { wishes, problems } = readArgs(args);
  assert.deepEqual(problems, [], args.join(' '));
  return wishes.map(({ at: _, ...wish }) => wish);
}

test('V-136: what tunes a machine and is not relied on by its guest has no effect', () => {
  for (const [option, value] of [
    ['-global', 'qxl-vga.vram_size=67108864'],
    ['-global', 'VGA.vgamem_mb=64'],
    ['-global', 'mc146818rtc.lost_tick_policy=discard'],
    ['-global', 'isa-debugcon.iobase=0x402'],
    ['-device', 'isa-debugcon,chardev=debug'],
    ['-device', 'virtio-vga-gl,xres=1920'],
    ['-device', 'usb-audio,audiodev=a'],
    ['-device', 'xio3130-downstream,bus=upstream,chassis=1'],
    ['-object', 'memory-backend-memfd,id=m,size=1G,share=on'],
    ['-object', '{"qom-type":"iothread","id":"io0"}'],
    ['-numa', 'node,memdev=m'],
    ['-mem-path', '/dev/hugepages'],
    ['-run-with', 'async-teardown=on'],
    ['-bios', '/usr/share/seabios/bios-256k.bin'],
  ] as const) {
    assert.deepEqual(wishesOf(option, value), []);
  }
  assert.deepEqual(wishesOf('-machine', 'q35,memory-backend=m,smbios-entry-point-type=64'), [
    { kind: 'machine', machine: 'q35' },
  ]);
  assert.deepEqual(
    wishesOf('-device', 'virtio-net-pci,netdev=n,rx_queue_size=1024,speed=10000,acpi-index=1'),
    [{ kind: 'card', netdev: 'n', model: 'virtio' }],
  );
  assert.deepEqual(wishesOf('-device', 'scsi-hd,drive=d,discard_granularity=0,min_io_size=4096'), [
    { kind: 'drive-device', drive: 'd', bus: 'scsi', cdrom: false },
  ]);
  const drive = { kind: 'drive', id: undefined, file: 'a', bus: undefined, cdrom: false };
  assert.deepEqual(wishesOf('-drive', 'file=a,l2-cache-size=8M,overlap-check=none,node-name=x'), [
    { ...drive, readOnly: false },
  ]);
});

test('V-136: options as JSON objects are read as those with key=value', () => {
  assert.deepEqual(
    wishesOf(
      ...['-netdev', '{"type":"user","id":"n"}'],
      ...['-device', '{"driver":"virtio-net-pci","netdev":"n","mac":"52:54:00:12:34:56"}'],
      ...['-drive', '{"file":{"filename":"a"},"if":"virtio","readonly":true}'],
    ),
    [
      { kind: 'netdev', id: 'n', forwards: [] },
      { kind: 'card', netdev: 'n', model: 'virtio', mac: '52:54:00:12:34:56' },
      { kind: 'drive', id: undefined, file: 'a', bus: 'virtio', cdrom: false, readOnly: true },
    ],
  );
  const { problems } = readArgs(['-device', '{"driver":', '-device', '{"driver":"x","y":[{}]}']);
  assert.deepEqual(
    problems.map(({ text }) => text.slice(0, 33)),
    ['-device the device "{\\"driver\\":"', '-device the device "x" is not sup'],
  );
});

test('V-136: the cache of a drive may be given by its switches, and memory in parts of a unit', () => {
  for (const [switches, cache] of [
    ['cache.direct=on', 'none'],
    ['cache.direct=on,cache.no-flush=off', 'none'],
    ['cache.direct=off', 'writeback'],
    ['cache.writeback=off', 'writethrough'],
    ['cache.writeback=off,cache.direct=on', 'directsync'],
    ['cache.no-flush=on', 'unsafe'],
    ['cache=directsync,cache.no-flush=off', 'directsync'],
  ] as const) {
    const [wish] = wishesOf('-drive', `file=a,${switches}`);
    assert.equal(wish?.kind === 'drive' && wish.cache, cache, switches);
  }
  assert.deepEqual(wishesOf('-m', '1.5G'), [{ kind: 'memory', memoryMiB: 1536 }]);
  assert.deepEqual(wishesOf('-m', '2Gi'), [{ kind: 'memory', memoryMiB: 2048 }]);
});

test('V-136: what a guest relies on is refused, with one message for an option and its value', () => {
  for (const [args, expected] of [
    [['-device', 'virtio-blk-pci,drive=image0,logical_block_size=4096'], /sectors of 512 bytes$/],
    [['-device', 'nvme,drive=d'], /a disk is on virtio, ide, usb, or on scsi, whose controller is/],
    [['-device', 'tpm-tis,tpmdev=t'], /guests have no TPM; leave it out$/],
    [['-device', 'pc-dimm,memdev=m'], /use `resources`: memory is the task's; leave it out$/],
    [['-object', 'throttle-group,id=g'], /is not read: use `disk \{ throttle \}`$/],
    [['-run-with', 'user=nobody'], /^-run-with "user" is not supported; leave it out$/],
    [['-startdate', 'now'], /^"-startdate" is not known; leave it out/],
  ] as const) {
    const { problems } = readArgs(args);
    assert.equal(problems.length, 1, args.join(' '));
    assert.match(problems[0]?.text ?? '', expected);
  }
});
