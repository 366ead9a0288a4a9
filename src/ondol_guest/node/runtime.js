'use strict';
// Calls and their answers, as the Node.js contract has them.
//
// Up to Node.js 22: a callback, a promise, or context.done/succeed/fail answer; a value that is returned does not. A callback's answer
// waits for an empty event loop unless callbackWaitsForEmptyEventLoop is false; an event loop that is empty before anything
// answered is the answer null. An error that nobody caught is the answer to the call, and the process ends with 129 (128 for a
// promise's). From Node.js 24 on only what the handler returns counts, and errors that nobody caught are left to Node.js.

const frames = require('./frames');
const errors = require('./errors');
const context = require('./context');
const { setRequest } = require('./log');
const { ResponseStream } = require('./stream');

/** 6 MiB and room for an envelope. */
const RESULT_BYTES_MAX = 6 * 1024 * 1024 + 100;
const UNCAUGHT = 129;
const UNHANDLED = 128;

const { parse, stringify } = JSON;
const isPromise = (value) => value && value.then && typeof value.then === 'function';

/** The result as JSON text. */
function marshal(result, failure) {
  let text;
  try {
    text = stringify(result === undefined ? null : result);
  } catch {
    throw failure('Unable to stringify response body');
  }
  if (text === undefined) throw new Error('A string was expected'); // a function or a symbol
  return text;
}

class Runtime {
  constructor(wire, handler, streaming, logError) {
    this.wire = wire;
    this.handler = handler;
    this.streaming = streaming;
    this.logError = logError;
    /** The call under way: {number, answered, stream}. */
    this.current = null;
    /** Called when the event loop is empty. */
    this.onEmpty = null;
    this._waiting = [];
  }

  /** Wait for the next call; one that is there already begins with the loop's next turn. */
  scheduleIteration() {
    this.current = null;
    this.onEmpty = null;
    this.wire.hold(true);
    if (this._waiting.length) setImmediate(() => this._next());
  }

  /** A CALL, or a part of one. */
  take(kind, flags, invocation, payload) {
    if (kind === frames.CREDIT) {
      if (this.current?.number === invocation && this.current.stream) this.current.stream.grant(payload.readUInt32LE(0));
    } else if (kind === frames.CALL) {
      const [meta, body] = frames.splitMeta(payload);
      this._waiting.push({ number: invocation, meta, bodies: [body], more: Boolean(flags & frames.MORE) });
    } else if (kind === frames.BODY) {
      this._takeBody(flags, invocation, payload);
    }
    this._next();
  }

  _takeBody(flags, invocation, payload) {
    const call = this._waiting.find((each) => each.number === invocation);
    if (!call) return;
    call.bodies.push(payload);
    if (payload.length) {
      const size = Buffer.allocUnsafe(4);
      size.writeUInt32LE(payload.length);
      this.wire.send(frames.pack(frames.CREDIT, invocation, size));
    }
    if (flags & frames.ERROR) this._waiting.splice(this._waiting.indexOf(call), 1); // given up in the middle
    else if (flags & frames.LAST) call.more = false;
  }

  _next() {
    if (this.current || !this._waiting.length || this._waiting[0].more) return;
    const { number, meta, bodies } = this._waiting.shift();
    const call = { number, answered: false, stream: null };
    this.current = call;
    const told = parse(meta);
    setRequest(told.id, told.tenant);
    const text = bodies.length === 1 ? bodies[0].toString() : Buffer.concat(bodies).toString();
    this.wire.hold(this.streaming !== null); // a stream that is not ended has a reason to live: its reader waits
    this.handleOnce(call, told, text);
  }

  handleOnce(call, told, text) {
    if (this.streaming) this.handleOnceStreaming(call, told, text);
    else this.handleOnceNonStreaming(call, told, text);
  }

  async handleOnceNonStreaming(call, told, text) {
    await undefined; // so that a stack trace has the handler, this, and no more of ours
    const [callback, answering] = this._answering(call);
    try {
      this.onEmpty = () => this._complete(call, null);
      const result = this.handler(JSON.parse(text), context.attach(answering, told), callback);
      if (isPromise(result)) result.then(answering.succeed, answering.fail).catch(answering.fail);
    } catch (error) {
      callback(error);
    }
  }

  async handleOnceStreaming(call, told, text) {
    const { highWaterMark } = this.streaming;
    const whole = told.stream ? null : (body) => this._answer(call, body);
    call.stream = new ResponseStream(this.wire, call.number, { highWaterMark, settle: () => this._over(call), whole });
    await undefined;
    try {
      const result = this.handler(JSON.parse(text), call.stream, this._streamingContext(told));
      if (!isPromise(result)) this._failStream(call, this._syncStreamingError());
      else if ((await result) !== undefined) console.warn('Streaming handlers ignore return values.');
    } catch (error) {
      this._failStream(call, error);
    }
  }

  _streamingContext(told) {
    return context.attach({ callbackWaitsForEmptyEventLoop: true }, told);
  }

  _syncStreamingError() {
    return 'Streaming does not support non-async handlers.';
  }

  _failStream(call, error) {
    this.logError('Invoke Error', error);
    call.stream.fail(error);
  }

  /** The handler's callback, and what the context has of its kind. The first of them to be called counts. */
  _answering(call) {
    let waits = true;
    let finished = false;
    const once = (answer) => (...values) => {
      if (finished) return;
      answer(...values); // what it throws (a result that is no JSON) leaves room for another answer
      finished = true;
    };
    const done = (error, result) => {
      this.onEmpty = null;
      if (error !== undefined && error !== null) this._fail(call, error);
      else this._complete(call, result);
    };
    const callback = (error, result) => {
      this.onEmpty = null;
      if (error !== undefined && error !== null) this._fail(call, error);
      else if (!waits) this._complete(call, result);
      else this.onEmpty = () => setImmediate(() => this._complete(call, result));
    };
    const answering = {
      get callbackWaitsForEmptyEventLoop() {
        return waits;
      },
      set callbackWaitsForEmptyEventLoop(value) {
        waits = value;
      },
      succeed: once((result) => done(null, result)),
      fail: once((error) => (error === undefined || error === null ? done('handled') : done(error, null))),
      done: once(done),
    };
    return [once(callback), answering];
  }

  _complete(call, result) {
    if (call.answered) {
      console.error('Invocation has already been reported as done. Cannot call complete more than once per invocation.');
      return;
    }
    this._answer(call, marshal(result, (text) => new Error(text)));
  }

  _fail(call, error, then) {
    if (call.answered) return;
    this.logError('Invoke Error', error);
    this._answerError(call, error, then);
  }

  _answerError(call, error, then) {
    call.answered = true;
    const body = stringify(errors.toPayload(error));
    this.wire.send(frames.packMeta(frames.RESULT, call.number, '', body, frames.ERROR), then);
    this._over(call);
  }

  /** `body`: text or bytes. */
  _answer(call, body) {
    call.answered = true;
    const length = Buffer.byteLength(body);
    const frame =
      length > RESULT_BYTES_MAX
        ? frames.packMeta(frames.RESULT, call.number, stringify({ too_large: length }), '', frames.ERROR)
        : frames.packMeta(frames.RESULT, call.number, '', body);
    this.wire.send(frame);
    this._over(call);
  }

  _over(call) {
    call.answered = true;
    if (this.current === call) this.scheduleIteration();
  }

  /** An error that nobody caught: the answer to the call, and the process's end. */
  endFor(error, status) {
    const call = this.current;
    const leave = () => process.exit(status);
    if (!call || call.answered) leave();
    else if (call.stream) call.stream.fail(error, leave);
    else this._answerError(call, error, leave);
  }
}

/** As Node.js 24 and later have it. */
class RecentRuntime extends Runtime {
  async handleOnceNonStreaming(call, told, text) {
    await undefined;
    const { logError } = this;
    let result;
    try {
      result = marshal(await this.handler(JSON.parse(text), context.build(told)), (message) => new errors.JSONStringifyError(message));
    } catch (error) {
      await new Promise(setImmediate);
      logError('Invoke Error', error);
      this._answerError(call, error);
      return;
    }
    this._answer(call, result);
  }

  _streamingContext(told) {
    return context.build(told);
  }

  _syncStreamingError() {
    return new Error('Streaming does not support non-async handlers.');
  }
}

module.exports = { Runtime, RecentRuntime, UNCAUGHT, UNHANDLED };
