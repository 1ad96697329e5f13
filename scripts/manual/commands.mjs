// The commands as data, from the same definitions as --help: what manual pages and completions are made of.

/** What the shell can complete a value with, by the name that the definition gives it. */
const KINDS = {
  device: 'device',
  target: 'device',
  dir: 'directory',
  mount: 'directory',
  'url|dir': 'directory',
};
const FILE_NAMES = new Set(['file', 'program', 'path', 'files']);
const kindOf = (name) => KINDS[name] ?? (FILE_NAMES.has(name) ? 'file' : 'other');

function optionOf(help, option) {
  const value = /[<[](.*?)(?:\.\.\.)?[>\]]/.exec(option.flags)?.[1];
  return {
    flags: [option.short, option.long].filter(Boolean),
    term: help.optionTerm(option),
    summary: option.description,
    description: help.optionDescription(option),
    ...(value === undefined ? {} : { value, choices: option.argChoices ?? [], kind: kindOf(value) }),
  };
}

function argumentOf(help, argument, words) {
  const name = argument.name();
  return {
    name,
    description: help.argumentDescription(argument),
    choices: argument.argChoices ?? [],
    kind: words[0] === 'tap' && name === 'name' ? 'tap' : kindOf(name),
  };
}

/** What the definition adds below the lists of --help. */
function textAfter(command) {
  const written = [];
  for (const event of ['afterHelp'])
    command.emit(event, { error: false, command, write: (text) => written.push(text) });
  return written.join('').trim();
}

/** @returns the command and all below it, parents first: words are its path, [] for the program itself */
export function describe(command, words = []) {
  const help = command.createHelp();
  const below = help.visibleCommands(command).filter((child) => child.name() !== 'help');
  const own = {
    words,
    description: command.description(),
    usage: help.commandUsage(command),
    arguments: command.registeredArguments.map((argument) => argumentOf(help, argument, words)),
    options: help.visibleOptions(command).map((option) => optionOf(help, option)),
    commands: below.map((child) => ({ name: child.name(), description: child.description() })),
    after: textAfter(command),
  };
  return [own, ...below.flatMap((child) => describe(child, [...words, child.name()]))];
}

/** Each option once: those of the command, then those that all commands take. */
export function optionsFor(command, program) {
  const own = new Set(command.options.flatMap(({ flags }) => flags));
  return [...command.options, ...program.options.filter(({ flags }) => !flags.some((flag) => own.has(flag)))];
}
