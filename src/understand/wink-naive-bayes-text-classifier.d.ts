/** What is used of the classifier's library, which has no types of its own. */
declare module 'wink-naive-bayes-text-classifier' {
  interface Classifier {
    definePrepTasks(tasks: readonly ((text: string) => string[])[]): number;
    defineConfig(config: { considerOnlyPresence: boolean; smoothingFactor: number }): boolean;
    learn(text: string, label: string): boolean;
    consolidate(): boolean;
    predict(text: string): string;
    /** Label and the odds of it, as base 2 logarithms, the best first. */
    computeOdds(text: string): [string, number][];
  }
  const createClassifier: () => Classifier;
  export = createClassifier;
}
