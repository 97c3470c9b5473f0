import { writeArgsReference } from './args-reference.ts';
import { writeConfigurationReference } from './config-reference.ts';
import { writeConformance } from './conformance.ts';

// npm run docs    writes docs/configuration.md from the schemas, the tables of args in docs/migrating.md from the code,
//                  docs/conformance.md from the titles of the tests

for (const path of [writeConfigurationReference(), writeArgsReference(), writeConformance()])
  console.log(path);
