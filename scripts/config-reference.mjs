// Makes docs/configuration.md of the schema in src/config/schema. After "npm run build":
//   node scripts/config-reference.mjs
import { writeFileSync } from 'node:fs';
import { reference } from '../build/ts/src/config/reference.js';

writeFileSync('docs/configuration.md', reference());
