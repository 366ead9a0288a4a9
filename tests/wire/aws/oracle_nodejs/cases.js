'use strict';
// One handler, many behaviours: `event.case` says which. Runs under aws-lambda-ric and under our guest; must run on both alike.

console.log('loading cases');

class Custom extends Error {
  constructor(message) {
    super(message);
    this.name = 'Custom';
    this.code = 'E_CUSTOM';
    this.extra = { a: 1 };
  }
}

const circular = () => {
  const value = { a: 1 };
  value.self = value;
  return value;
};

const VALUES = {
  undefined: () => undefined,
  null: () => null,
  text: () => '온돌 \u2028 \ud83d\udd25 "quoted"',
  lone_surrogate: () => '\ud800',
  number: () => 1.5e300,
  not_a_number: () => NaN,
  infinite: () => [Infinity, -0],
  date: () => new Date(0),
  buffer: () => Buffer.from('abc'),
  map: () => new Map([['a', 1]]),
  to_json: () => ({ toJSON: () => 'made' }),
  holes: () => [undefined, () => 1, Symbol('s'), { u: undefined }],
  nested: () => ({ a: [{ b: { c: [] } }] }),
  error: () => new Error('returned'),
};

const ERRORS = {
  plain: () => new Error('plain'),
  type: () => new TypeError('typed'),
  custom: () => new Custom('mine'),
  empty: () => new Error(),
  del: () => new Error('with \x7f in it'),
  cause: () => new Error('outer', { cause: new Error('inner') }),
  text: () => 'just text',
  number: () => 5,
  object: () => ({ name: 'Named', message: 'm', stack: 'Named: m\n    at somewhere' }),
  other_object: () => ({ a: 1 }),
  nothing: () => undefined,
  zero: () => 0,
  circular: () => Object.assign(new Error('round'), { self: circular() }),
  stackless: () => Object.assign(new Error('flat'), { stack: undefined }),
  aggregate: () => new AggregateError([new Error('one')], 'many'),
};

const LOGS = {
  log: () => console.log('text', 1, { a: [1, { b: 2 }] }, null, undefined),
  nothing: () => console.log(),
  format: () => console.info('%s %d %j %o %%', 'x', 1.5, { a: 1 }, [1]),
  levels: () => ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'log'].forEach((name) => console[name](name)),
  lines: () => console.log('two\nlines\r\nthree'),
  error: () => console.error(new Custom('shown')),
  error_with_text: () => console.error('text', new Custom('shown')),
  error_last: () => console.warn({ a: 1 }, 'x', new Error('last')),
  object: () => console.log({ a: 1, b: [{}] }),
  circular: () => console.log(circular()),
  big: () => console.log(10n, Symbol('s'), () => 1),
  table: () => console.table([{ a: 1 }, { a: 2 }]),
  group: () => {
    console.group('outer');
    console.log('inner');
    console.groupEnd();
  },
  dir: () => console.dir({ a: 1 }),
  count: () => console.count('n'),
  assert: () => console.assert(false, 'not so'),
  raw: () => process.stdout.write('raw\n'),
};

const FAILS = {
  circular,
  bigint: () => 10n,
  throwing: () => ({ toJSON: () => { throw new Error('inside'); } }),
};

exports.promise = async (event, context) => {
  if (event.kind === 'value') return VALUES[event.case]();
  if (event.kind === 'fail') return FAILS[event.case]();
  if (event.kind === 'error') throw ERRORS[event.case]();
  if (event.kind === 'log') return LOGS[event.case]();
  if (event.kind === 'context') {
    const shown = { ...context };
    return { shown, keys: Object.keys(context), trace: process.env._X_AMZN_TRACE_ID, left: context.getRemainingTimeInMillis() > 0 };
  }
  return event;
};

exports.callback = (event, context, callback) => {
  if (event.kind === 'value') callback(null, VALUES[event.case]());
  else if (event.kind === 'error') callback(ERRORS[event.case]());
  else callback(null, event);
};

exports.context = (event, context) => {
  if (event.kind === 'value') context.succeed(VALUES[event.case]());
  else context.fail(ERRORS[event.case]());
};

exports.sync = (event) => {
  if (event.kind === 'error') throw ERRORS[event.case]();
  return VALUES[event.case]();
};

exports.waits = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = event.waits;
  setTimeout(() => console.log('left over'), 10);
  callback(null, 'answered');
};

exports.twice = (event, context, callback) => {
  callback(null, 'first');
  callback(new Error('second'));
  context.done(null, 'third');
};

exports.fatal = (event, context, callback) => {
  if (event.case === 'uncaught') setTimeout(() => { throw new Custom('nobody caught it'); }, 1);
  if (event.case === 'unhandled') Promise.reject(new Custom('nobody caught it'));
  if (event.case === 'unhandled_text') Promise.reject('just text');
  if (event.case === 'circular') callback(null, circular());
  if (event.case === 'exit') process.exit(3);
  if (event.case === 'kill') process.kill(process.pid, 'SIGKILL');
  if (event.case === 'abort') process.abort();
  setTimeout(() => {}, 2000);
};

exports.names = { VALUES: Object.keys(VALUES), ERRORS: Object.keys(ERRORS), LOGS: Object.keys(LOGS), FAILS: Object.keys(FAILS) };
exports.text = 'no function';
exports.deep = { er: { handler: async () => 'deep' } };
