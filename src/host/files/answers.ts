import { dirname } from 'node:path';
import type { Waiting } from '#spec';
import { HostError } from '../error.ts';
import { abortable, within } from '../waiting.ts';

const answerMs = 5000;
/** For a question that others wait for already. */
const againMs = 200;

/** Threads of the pool in all, which files, names and checksums need as well; Node's own number is 4. */
const poolThreads = 16;
const maxQuestions = poolThreads / 2;

/** Takes effect before the first use of the pool. */
export function widenThreadPool(env: NodeJS.ProcessEnv): void {
  env.UV_THREADPOOL_SIZE ??= String(poolThreads);
}

interface Question {
  readonly path: string;
  /** As `performance.now()`. */
  readonly askedAt: number;
  readonly settled: Promise<void>;
}

/** Those that are not answered yet, by path, oldest first. Each keeps a thread of the pool. */
const questions = new Map<string, Question>();

/**
 * What a file system answers to the first question about a path that a job or an operator names. One whose server is gone
 * does not answer: a synchronous call would hold the event loop until it is back, and each other one a thread. So a path is
 * not asked for while it, or a directory that contains it, has not been answered, nor while half of the threads wait.
 * Throws HostError `ETIMEDOUT` when there is no answer within five seconds, and soon where that is known already; else what
 * `ask` throws.
 */
export async function answered<T>(
  path: string,
  ask: (path: string) => Promise<T>,
  waiting: Waiting,
): Promise<T> {
  const comesAt = performance.now();
  for (let first = before(path, comesAt); first !== undefined; first = before(path, comesAt)) {
    await inTime(first, path, waiting);
  }
  waiting.signal.throwIfAborted();
  const answer = ask(path);
  const settled = answer.then(ignore, ignore).then(() => void questions.delete(path));
  const question = { path, askedAt: performance.now(), settled };
  questions.set(path, question);
  await inTime(question, path, waiting);
  return await answer;
}

/** What is to be answered before this path is asked for: the question about it, or any one where there are too many. */
function before(path: string, askedAt: number): Question | undefined {
  const [oldest] = questions.values();
  if (oldest === undefined || questions.size < maxQuestions) return questionAbout(path);
  const settled = Promise.race([...questions.values()].map((question) => question.settled));
  return questionAbout(path) ?? { path: oldest.path, askedAt, settled };
}

function questionAbout(path: string): Question | undefined {
  const parent = dirname(path);
  return questions.get(path) ?? (parent === path ? undefined : questionAbout(parent));
}

async function inTime(question: Question, path: string, waiting: Waiting): Promise<void> {
  const leftMs = question.askedAt + answerMs - performance.now();
  using limited = within(Math.max(againMs, leftMs), waiting);
  try {
    await abortable(question.settled, limited);
  } catch (cause) {
    waiting.signal.throwIfAborted();
    const text = `${path}: the file system of ${question.path} has not answered within ${answerMs / 1000} s; is its server reachable?`;
    throw new HostError(text, { cause, errno: 'ETIMEDOUT' });
  }
}

function ignore(): void {}
