/** How answers differ in the versions of the protocol that agents of former versions speak. */

/**
 * @param version that the agent asked in
 * @returns the answer as that version has it. In version 3 a point does not say what group it is of, nor
 * where it is in a journal.
 */
export function answerIn(version: number, answer: object): object {
  if (version > 3) return answer;
  const text = JSON.stringify(answer, (key, value: unknown) => {
    if (key === 'group' || key === 'journal') return undefined;
    return key === 'protocolVersion' ? version : value;
  });
  return JSON.parse(text) as object;
}
