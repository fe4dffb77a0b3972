/** Waiting in tests: for a condition with a deadline, never for a length of time. */

/** Between two looks: a twentieth of the wait so far, so that what is waited for is not kept busy by the looking. */
const SOONEST_MS = 5;
const LATEST_MS = 50;

/** Resolves soon after the condition holds; throws when it does not within `deadlineMs`. `what` completes "in time: ". */
export async function until(
  condition: () => boolean | Promise<boolean>,
  deadlineMs = 10_000,
  what = 'the condition',
): Promise<void> {
  const beganMs = performance.now();
  while (!(await condition())) {
    const waitedMs = performance.now() - beganMs;
    if (waitedMs > deadlineMs) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    const pauseMs = Math.min(LATEST_MS, Math.max(SOONEST_MS, waitedMs / 20));
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
