import { type GuestName, guestImage, guestNames } from './images.ts';

/** `build.ts [NAME]...`: builds the named guests, or all, and prints the path of each. */
async function main(names: readonly string[]): Promise<number> {
  const wanted = names.length === 0 ? guestNames : names;
  for (const name of wanted) {
    if (!isGuestName(name)) {
      console.error(`there is no guest ${name}; the guests are ${guestNames.join(', ')}`);
      return 2;
    }
    try {
      console.log(`${name}: ${(await guestImage(name, (line) => console.log(line))).path}`);
    } catch (error) {
      console.error(error instanceof Error ? error.message : error);
      return 1;
    }
  }
  return 0;
}

function isGuestName(name: string): name is GuestName {
  return guestNames.some((guest) => guest === name);
}

process.exitCode = await main(process.argv.slice(2));
