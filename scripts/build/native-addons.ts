import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Plugin } from 'esbuild';

const require = createRequire(import.meta.url);

/** The native parts that go into the executable as assets, by the names that src/host/native/native.ts asks for. */
export function nativeAssets(arch: string): Record<string, string> {
  // koffi keeps its addons in one optional package per platform, netlink all in its own folder.
  const koffi = dirname(require.resolve('koffi'));
  return {
    'koffi.node': join(koffi, `../@koromix/koffi-linux-${arch}/linux_${arch}/koffi.node`),
    'netlink.node': join(
      dirname(require.resolve('netlink/package.json')),
      `prebuilds/linux-${arch}/node.napi.node`,
    ),
  };
}

/** Lets the netlink package take its addon from the executable instead of searching folders for it. */
export function netlinkAddon(native: string): Plugin {
  return {
    name: 'netlink-addon',
    setup(build) {
      build.onResolve({ filter: /^node-gyp-build$/ }, () => ({
        path: 'node-gyp-build',
        namespace: 'netlink-addon',
      }));
      build.onLoad({ filter: /.*/, namespace: 'netlink-addon' }, () => ({
        contents: `const { loadNative } = require(${JSON.stringify(native)});
          module.exports = () => loadNative('netlink');`,
        resolveDir: dirname(native),
      }));
    },
  };
}
