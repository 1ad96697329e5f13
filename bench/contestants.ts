/** The tools that are compared, each behind the same four verbs. */
import { mkdirSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type Measured, measure, occupiedBytes, shell, type Usage } from './process.js';
import { Installation } from './stillpoint.js';

export interface Contestant {
  readonly name: string;
  readonly version: string;
  /** Empties the store; the tool then knows nothing. */
  reset(): Promise<void>;
  /** Reads all of the image, whatever its time stamps say: a block device has none. */
  backup(image: string): Promise<Measured>;
  /** Restores the latest backup to a new file. */
  restore(image: string, target: string): Promise<Measured>;
  storeBytes(): number;
  /** @returns what its server has used, if it has one. */
  close(): Promise<Usage | null>;
}

export class Stillpoint implements Contestant {
  readonly name = 'stillpoint';
  readonly version = '';
  readonly #directory: string;
  #installation: Installation | null = null;

  constructor(directory: string) {
    this.#directory = join(directory, 'stillpoint');
  }

  async reset(): Promise<void> {
    await this.close();
    this.#installation = await Installation.make(this.#directory);
  }

  backup(image: string): Promise<Measured> {
    return this.#installed().backup(image);
  }

  restore(_image: string, target: string): Promise<Measured> {
    return this.#installed().restore(target);
  }

  storeBytes(): number {
    return this.#installed().storeBytes();
  }

  async close(): Promise<Usage | null> {
    const usage = (await this.#installation?.stop()) ?? null;
    await this.#installation?.remove();
    this.#installation = null;
    return usage;
  }

  #installed(): Installation {
    if (this.#installation === null) throw new Error('stillpoint: reset it first');
    return this.#installation;
  }
}

export class Borg implements Contestant {
  readonly name: string;
  readonly version = shell('borg', '--version').trim();
  readonly #directory: string;
  readonly #repository: string;
  readonly #createOptions: readonly string[];
  readonly #env: NodeJS.ProcessEnv;
  #archive = 0;

  /** @param createOptions e.g. another chunker. */
  constructor(directory: string, name: string, createOptions: readonly string[] = []) {
    this.name = name;
    this.#directory = join(directory, name.replaceAll(' ', '-'));
    this.#repository = join(this.#directory, 'repository');
    this.#createOptions = createOptions;
    this.#env = { ...process.env, BORG_BASE_DIR: this.#directory };
  }

  async reset(): Promise<void> {
    await this.close();
    mkdirSync(this.#directory, { recursive: true });
    await this.#borg('init', '--encryption=none', this.#repository);
  }

  backup(image: string): Promise<Measured> {
    const archive = `${this.#repository}::${++this.#archive}`;
    const options = ['--compression=zstd,1', '--files-cache=disabled', ...this.#createOptions];
    return this.#borg('create', ...options, archive, image);
  }

  async restore(image: string, target: string): Promise<Measured> {
    const archive = `${this.#repository}::${this.#archive}`;
    const stripped = dirname(image).split('/').length - 1;
    const args = ['extract', '--sparse', `--strip-components=${stripped}`, archive];
    const measured = await measure('borg', args, { env: this.#env, cwd: dirname(target) });
    if (basename(image) !== basename(target))
      throw new Error(`${target}: borg restores under the image's name only`);
    return measured;
  }

  storeBytes(): number {
    return occupiedBytes(this.#repository);
  }

  async close(): Promise<null> {
    rmSync(this.#directory, { recursive: true, force: true });
    return null;
  }

  #borg(...args: string[]): Promise<Measured> {
    return measure('borg', args, { env: this.#env });
  }
}

export class Restic implements Contestant {
  readonly name = 'restic';
  readonly version = shell('restic', 'version').trim().split(' ').slice(0, 2).join(' ');
  readonly #directory: string;
  readonly #repository: string;
  readonly #env: NodeJS.ProcessEnv;

  constructor(directory: string) {
    this.#directory = join(directory, 'restic');
    this.#repository = join(this.#directory, 'repository');
    this.#env = {
      ...process.env,
      RESTIC_REPOSITORY: this.#repository,
      RESTIC_PASSWORD: 'bench',
      RESTIC_CACHE_DIR: join(this.#directory, 'cache'),
    };
  }

  async reset(): Promise<void> {
    await this.close();
    mkdirSync(this.#directory, { recursive: true });
    await this.#restic('init', '--repository-version=2');
  }

  backup(image: string): Promise<Measured> {
    return this.#restic('backup', '--force', image);
  }

  restore(image: string, target: string): Promise<Measured> {
    const options = { env: this.#env, stdoutPath: target };
    return measure('restic', ['dump', 'latest', image], options);
  }

  storeBytes(): number {
    return occupiedBytes(this.#repository);
  }

  async close(): Promise<null> {
    rmSync(this.#directory, { recursive: true, force: true });
    return null;
  }

  #restic(...args: string[]): Promise<Measured> {
    return measure('restic', args, { env: this.#env });
  }
}
