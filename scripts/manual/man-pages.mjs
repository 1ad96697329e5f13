// Manual pages in man(7): stillpoint(1), and one page for each command.

export const pageName = (words) => ['stillpoint', ...words].join('-');

const roff = (text) =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti')
    .replaceAll("'", '\\(aq')
    .replace(/^\./gm, '\\&.');
/** Lines that any terminal shows whole; none begins as a request does. */
const prose = (text) =>
  roff(text.replace(/(?![^\n]{1,72}$)([^\n]{1,72})\s/g, '$1\n')).replace(/^(?=\\\(aq)/gm, '\\&');
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1).replace(/\.$/, '')}.`;
const bold = (text) => `\\fB${roff(text)}\\fR`;
const entry = (term, text) => ['.TP', term, prose(text)];
const section = (title, lines) => (lines.length === 0 ? [] : [`.SH ${title}`, ...lines]);

/** `--name <name>`: the flags bold, the value in italics. */
const optionTerm = (term) =>
  roff(term)
    .replace(/(\\-[\w\\-]+)/g, '\\fB$1\\fR')
    .replace(/([<[].*[>\]])/, '\\fI$1\\fR');

function reference(words) {
  return `.BR ${roff(pageName(words))} (1)`;
}

const FILES = [
  ['/etc/stillpoint', 'configuration'],
  ['/var/lib/stillpoint', 'what this machine keeps: enrolments, known stores, digest trees, taps'],
  ['/var/lib/stillpoint-receiver', "the same of the receiver's service"],
  ['/usr/share/doc/stillpoint', 'documents'],
];

/** @returns {Map<string, string>} by file name */
export function manPages(commands, { version, date }) {
  const [program] = commands;
  return new Map(
    commands.map((command) => {
      const { words, description, usage, after } = command;
      const isProgram = words.length === 0;
      const parents = words.map((_, end) => words.slice(0, end));
      const children = command.commands.map(({ name }) => [...words, name]);
      const lines = [
        `.TH ${roff(pageName(words).toUpperCase())} 1 ${date} "Stillpoint ${version}" "Stillpoint manual"`,
        // Commands are long words.
        '.nh',
        '.ad l',
        ...section('NAME', [`${roff(pageName(words))} \\- ${prose(description.replace(/\.$/, ''))}`]),
        ...section('SYNOPSIS', synopsis(usage)),
        ...section('DESCRIPTION', [prose(sentence(description))]),
        ...section(
          'ARGUMENTS',
          command.arguments.flatMap(({ name, description }) => entry(`\\fI${roff(name)}\\fR`, description)),
        ),
        ...section(
          'OPTIONS',
          command.options.flatMap(({ term, description }) => entry(optionTerm(term), description)),
        ),
        ...section(
          'COMMANDS',
          command.commands.flatMap(({ name, description }) => entry(bold(name), description)),
        ),
        ...(isProgram
          ? []
          : section(
              'GLOBAL OPTIONS',
              program.options
                .filter(({ flags }) => !flags.includes('--help') && !flags.includes('--version'))
                .flatMap(({ term, description }) => entry(optionTerm(term), description)),
            )),
        ...(after === '' ? [] : notes(after)),
        ...(isProgram
          ? section(
              'FILES',
              FILES.flatMap(([file, what]) => entry(bold(file), what)),
            )
          : []),
        ...section('SEE ALSO', seeAlso([...parents, ...children])),
      ];
      return [`${pageName(words)}.1`, `${lines.join('\n')}\n`];
    }),
  );
}

/** `stillpoint backup [options] <device>`: the words bold, what they take in italics. */
function synopsis(usage) {
  const [, words, rest] = /^(.*?)((?: [[<].*)?)$/.exec(usage);
  return [`.B ${roff(words)}`, ...(rest === '' ? [] : [`.I ${roff(rest.trim())}`])];
}

const seeAlso = (pages) =>
  pages.length === 0
    ? []
    : pages.map((words, at) => `${reference(words)}${at < pages.length - 1 ? ' ,' : ''}`);

/** `Title:` and its lines, as the definition wrote them. */
function notes(text) {
  const [first, ...rest] = text.split('\n');
  const title = /^[A-Z][\w ]+:$/.test(first) ? first.slice(0, -1) : 'Notes';
  const body = title === 'Notes' ? text.split('\n') : rest;
  const lines = [];
  for (const line of body) {
    const row = /^ {2}(\S+) {2,}(.*)$/.exec(line);
    if (row === null) lines.push(line === '' ? '.PP' : prose(line.trim()));
    else lines.push('.TP', bold(row[1]), prose(row[2]));
  }
  return [`.SH ${title.toUpperCase()}`, ...lines];
}
