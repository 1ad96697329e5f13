/** A fake of a port that answers some of its messages; any other is a mistake of the test, and is said so. */
export function fakePort<P extends object>(answers: Partial<P>): P {
  const fake = new Proxy(answers, {
    get: (target, name) => {
      // An object with "then" would be taken for a promise.
      if (name in target || typeof name === 'symbol' || name === 'then') return Reflect.get(target, name);
      return () => Promise.reject(new Error(`the message "${name}" was not expected`));
    },
  });
  return fake as P;
}
