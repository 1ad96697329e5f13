/** Runs work that reads so many bytes, when it is time for that. */
export type Paced = <T>(bytes: number, work: () => Promise<T>) => Promise<T>;

export const atOnce: Paced = (_bytes, work) => work();
