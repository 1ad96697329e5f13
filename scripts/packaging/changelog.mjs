// CHANGELOG.md in the form of Debian's changelogs.
//   node scripts/packaging/changelog.mjs VERSION MAINTAINER SECONDS >changelog
import { readFileSync } from 'node:fs';

const [version, maintainer, seconds] = process.argv.slice(2);
const date = new Date(Number(seconds) * 1000).toUTCString().replace('GMT', '+0000');
const sections = readFileSync('CHANGELOG.md', 'utf8').split(/^## /m).slice(1);

const WIDTH = 76;
function item(text) {
  const lines = [];
  let line = '  *';
  for (const word of text.split(/\s+/)) {
    if (line.length + 1 + word.length > WIDTH && line.trim() !== '*') {
      lines.push(line);
      line = '   ';
    }
    line += ` ${word}`;
  }
  return [...lines, line].join('\n');
}

const entries = sections.map((section, at) => {
  const [title = ''] = section.split('\n');
  const named = /\[?(\d+\.\d+\.\d+)\]?/.exec(title)?.[1];
  const written = /(\d{4}-\d\d-\d\d)/.exec(title)?.[1];
  const items = section.split(/^- /m).slice(1);
  const text = items.map((lines) => item(lines.split(/\n\n|\n#/)[0].trim()));
  // The first section is what is being packaged, released or not.
  const own = at === 0 ? version : named;
  const day =
    at === 0 || written === undefined ? date : new Date(written).toUTCString().replace('GMT', '+0000');
  return `stillpoint (${own}) unstable; urgency=medium\n\n${text.join('\n')}\n\n -- ${maintainer}  ${day}\n`;
});
process.stdout.write(entries.join('\n'));
