/**
 * What is wrong right now, in words: title, what it means for the data, and the way out. Pure: states and numbers in,
 * problems out, most serious first. `error` = a promise cannot be kept or data stands still until a person acts;
 * `warning` = it may heal by itself, or will become an error; `note` = good to know.
 */
import { alertProblems } from './alert-problems.ts';
import { backlogProblems, deviceProblems, intakeProblems } from './number-problems.ts';
import { partProblem } from './part-problems.ts';
import type { Problem, Severity, Situation } from './problem.ts';

const RANK: Readonly<Record<Severity, number>> = { error: 0, warning: 1, note: 2 };

export function findProblems(situation: Situation): Problem[] {
  const problems: Problem[] = [];
  for (const part of situation.status.parts) {
    const problem = partProblem(part, situation);
    if (problem) problems.push(problem);
  }
  if (situation.status.role !== 'rollup') {
    problems.push(...intakeProblems(situation), ...deviceProblems(situation));
  }
  problems.push(...backlogProblems(situation), ...alertProblems(situation));
  return problems.sort((a, b) => RANK[a.severity] - RANK[b.severity]);
}

/** Kept by the view between looks: since when each problem has been there. */
export function rememberSince(problems: readonly Problem[], since: Map<string, number>, nowMs: number): Problem[] {
  const ids = new Set(problems.map((problem) => problem.id));
  for (const id of since.keys()) if (!ids.has(id)) since.delete(id);
  return problems.map((problem) => {
    const sinceMs = problem.sinceMs ?? since.get(problem.id) ?? nowMs;
    since.set(problem.id, sinceMs);
    return { ...problem, sinceMs };
  });
}
