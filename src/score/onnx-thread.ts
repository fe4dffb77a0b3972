/**
 * Worker thread of one ONNX model: loads the package and the model, then answers batches, one at a time, in the order in which they
 * come. It keeps nothing between two batches; whatever goes wrong is said in the answer. Started and ended by model-thread.ts.
 */
import { readFile } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { messageOf } from '../errors.ts';
import type { Answer, Asked, ModelThreadData } from './model-thread.ts';

/** WebAssembly: all of it comes with the package, and an install runs no script. */
const PACKAGE = 'onnxruntime-web';

const { file } = workerData as ModelThreadData;
const port = parentPort!;

async function load() {
  let ort: typeof import('onnxruntime-web');
  try {
    ort = await import('onnxruntime-web');
  } catch (error) {
    throw new Error(`it needs a package: npm install ${PACKAGE} (${messageOf(error)})`);
  }
  // This thread is the one that a model has.
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = 'error';
  const session = await ort.InferenceSession.create(new Uint8Array(await readFile(file)));
  const [input, ...moreInputs] = session.inputNames;
  const [output] = session.outputNames;
  if (input === undefined || output === undefined || moreInputs.length > 0) {
    throw new Error(`it has the inputs ${session.inputNames.join(', ')}; expected one`);
  }
  return { ort, session, input, output };
}

const loading = load();
loading.catch(() => {});

async function answer({ batch, count, windows, values }: Asked): Promise<Answer> {
  let model: Awaited<ReturnType<typeof load>>;
  try {
    model = await loading;
  } catch (error) {
    return { batch, reason: 'load', message: messageOf(error) };
  }
  const { ort, session, input, output } = model;
  try {
    const results = await session.run({ [input]: new ort.Tensor('float32', values, [count, windows]) });
    const { type, data, dims } = results[output]!;
    if (type !== 'float32' || data.length !== count) {
      const shape = `${type}[${dims.join(', ')}]`;
      return {
        batch,
        reason: 'shape',
        message: `it answers ${shape} to float32[${count}, ${windows}]; expected float32[${count}]`,
      };
    }
    return { batch, scores: Float32Array.from(data as Float32Array) };
  } catch (error) {
    return { batch, reason: 'error', message: messageOf(error) };
  }
}

port.on('message', async (asked: Asked) => port.postMessage(await answer(asked)));
