/**
 * The native tap in a process of its own, without the commands around it, so that it can be made without a
 * map file. Argument: the options of `createTap` as JSON. Calls come as messages and are answered one by one;
 * it ends with its parent.
 */
import { type CreateTapOptions, native, type Tap } from '../src/native/index.js';

export type TapCall = {
  [Name in keyof Tap]: { readonly method: Name; readonly args: Parameters<Tap[Name]> };
}[keyof Tap];

export type TapReply = { readonly result: unknown } | { readonly error: string };

const tap = await native.createTap(JSON.parse(process.argv[2] ?? '') as CreateTapOptions);
process.on('message', async ({ method, args }: TapCall) => {
  const call = tap[method] as (...args: unknown[]) => unknown;
  const reply = await Promise.resolve(call.apply(tap, args as unknown[])).then(
    (result): TapReply => ({ result }),
    (error: unknown): TapReply => ({ error: String(error) }),
  );
  process.send?.(reply);
});
process.on('disconnect', () => process.exit());
