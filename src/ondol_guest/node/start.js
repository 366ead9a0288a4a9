'use strict';
// A Node.js guest: `node [options] start.js`, with the wire on descriptor _ONDOL_WIRE and the log pipe on 1 and 2.
//
// It waits for INIT, becomes what INIT says, loads the handler and answers calls. INIT is JSON:
//
//   handler    as the function's owner wrote it
//   runtime    as the owner asked for it ("nodejs22.x"); what runs may be another
//   variables  the whole environment; null: this process has it already
//   cwd        where the function's code is
//
// _ONDOL_PLACES, where a shell does not show things at their usual places: JSON with "places", usual place -> here, and what "tmp"
// (TMPDIR) is, if not "".
//
// Invariants: nothing of the process that waited is left in the environment when user code runs; the first CALL may be in the wire
// while INIT is worked on; a process that user code starts holds no wire.

const Module = require('module');
const { performance } = require('perf_hooks');
const frames = require('./frames');
const { Wire } = require('./wire');
const { Log, patchConsole } = require('./log');
const errors = require('./errors');
const loader = require('./loader');
const { resolveByNodePath } = require('./modules');
const { rehearse } = require('./rehearsal');
const { HttpResponseStream } = require('./stream');
const { Runtime, RecentRuntime, UNCAUGHT, UNHANDLED } = require('./runtime');

/** Variables that hold paths of the function's surroundings; others are the function's own business. */
const PATHS = ['LAMBDA_TASK_ROOT', 'LAMBDA_RUNTIME_DIR', 'PATH', 'LD_LIBRARY_PATH', 'NODE_PATH'];
/** Who is started for a call that waits has its INIT by then. */
const REHEARSE_AFTER_MS = 2;
/** The first release whose handlers answer only by what they return. */
const RECENT_MAJOR = 24;

/** A variable that is ours, and nobody else's to see. */
function own(name) {
  const value = process.env[name];
  delete process.env[name];
  return value;
}

const { places = {}, tmp = '' } = JSON.parse(own('_ONDOL_PLACES') ?? '{}');
let runtime = null;
let initialised = false;
const early = [];
const log = new Log(1);

const wire = new Wire(
  Number(own('_ONDOL_WIRE')),
  (kind, flags, invocation, payload) => {
    if (kind === frames.STOP) process.exit(0);
    else if (runtime !== null) runtime.take(kind, flags, invocation, payload);
    else if (initialised) early.push([kind, flags, invocation, payload]);
    else waitForRehearsal(kind, payload);
  },
  () => process.exit(0),
);

// Made now, while nobody waits; and a full pipe must not turn lines written before an answer into lines behind it.
for (const stream of [process.stdout, process.stderr]) stream._handle?.setBlocking?.(true);
let rehearsing = null;
setTimeout(() => {
  if (!initialised) rehearsing = rehearse().catch(() => {}); // it only makes the first call quicker
}, REHEARSE_AFTER_MS);

function waitForRehearsal(kind, payload) {
  const began = performance.now();
  if (kind !== frames.INIT) throw new Error(`the first frame is of kind ${kind}, expected INIT`);
  initialised = true;
  if (rehearsing === null) initialise(payload, began);
  else rehearsing.then(() => initialise(payload, began));
}

function initialise(payload, began) {
  const settings = JSON.parse(payload.toString());
  const recent = Number(/^nodejs(\d+)/.exec(settings.runtime)?.[1] ?? 0) >= RECENT_MAJOR;
  const tookMs = () => Math.round((performance.now() - began) * 1000) / 1000;
  enter(settings);
  errors.follow(recent);
  const logError = patchConsole(log, recent ? '-' : undefined);
  const failed = (error, then) => {
    const body = JSON.stringify(errors.toPayload(error));
    wire.send(frames.packMeta(frames.INIT_FAILED, 0n, JSON.stringify({ init_ms: tookMs() }), body), then);
  };
  if (!recent) catchAll(logError, failed);
  begin(settings, recent, logError).then(
    (made) => {
      log.markLoaded();
      wire.send(frames.pack(frames.READY, 0n, JSON.stringify({ init_ms: tookMs() })));
      runtime = made;
      runtime.scheduleIteration();
      for (const frame of early.splice(0)) runtime.take(...frame);
    },
    (error) => {
      logError(recent ? 'Init Error' : 'Uncaught Exception', error);
      failed(error, () => process.exit(recent ? 1 : UNCAUGHT));
    },
  );
}

/** `path` below the directory that stands in its place here. */
function moved(path) {
  for (const [place, here] of Object.entries(places)) {
    if (path === place || path.startsWith(place + '/')) return here + path.slice(place.length);
  }
  return path;
}

/** Make this process what `settings` say it is. */
function enter(settings) {
  const { env } = process;
  settings.cwd = moved(settings.cwd);
  if (settings.variables) {
    // What is right stays untouched: setting TZ, for one, takes milliseconds.
    for (const name of Object.keys(env)) if (!(name in settings.variables)) delete env[name];
    for (const [name, value] of Object.entries(settings.variables)) if (env[name] !== value) env[name] = value;
    for (const name of PATHS) if (name in env) env[name] = env[name].split(':').map(moved).join(':');
    if (tmp) env.TMPDIR ??= tmp;
  }
  process.chdir(settings.cwd);
  process.argv.splice(1, process.argv.length, '/var/runtime/index.mjs');
  // User code is not this program's: it finds no main module, and nothing of ours in its cache.
  process.mainModule = undefined;
  for (const name of Object.keys(Module._cache)) delete Module._cache[name];
  Module._initPaths();
  if (!['1', 'true'].includes(env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA)) {
    globalThis.awslambda = { streamifyResponse: loader.streamifyResponse, HttpResponseStream };
  }
}

async function begin(settings, recent, logError) {
  resolveByNodePath();
  const handler = await loader.load(settings.cwd, settings.handler, recent);
  const streaming = loader.streamingOf(handler);
  if (recent && streaming === null && handler.length >= 3) {
    throw new errors.CallbackHandlerDeprecated(
      'ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. You need to modify ' +
        'this function to use a supported handler signature to use Node.js 24 or later. For more information see ' +
        'https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.',
    );
  }
  await new Promise(setImmediate); // a promise that was rejected meanwhile, and that nobody caught, fails the loading
  return new (recent ? RecentRuntime : Runtime)(wire, handler, streaming, logError);
}

/** Errors that nobody caught, and an event loop that is empty. */
function catchAll(logError, failed) {
  const end = (error, status) => {
    if (runtime !== null) runtime.endFor(error, status);
    else failed(error, () => process.exit(status));
  };
  process.on('uncaughtException', (error) => {
    logError('Uncaught Exception', error);
    end(error, UNCAUGHT);
  });
  process.on('unhandledRejection', (reason, promise) => {
    const error = Object.assign(new errors.UnhandledPromiseRejection(reason), { reason, promise });
    logError('Unhandled Promise Rejection', error);
    end(error, UNHANDLED);
  });
  process.on('beforeExit', () => {
    if (runtime?.onEmpty) runtime.onEmpty();
  });
}
