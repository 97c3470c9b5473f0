import { writeConfigurationReference } from './config-reference.ts';
import { writeConformance } from './conformance.ts';

// npm run docs    writes docs/configuration.md from the schemas, docs/conformance.md from the titles of the tests

for (const path of [writeConfigurationReference(), writeConformance()]) console.log(path);
