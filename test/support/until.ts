/** Waiting in tests: for a condition with a deadline, never for a length of time. */

/** Resolves as soon as the condition holds; throws when it does not within `deadlineMs`. `what` completes "in time: ". */
export async function until(
  condition: () => boolean | Promise<boolean>,
  deadlineMs = 10_000,
  what = 'the condition',
): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
