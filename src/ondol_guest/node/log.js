'use strict';
// The log pipe, and console: whole records as log frames, in the order of everything that is written.
//
// What console's methods print is part of the contract: as text "time TAB request TAB LEVEL TAB message", or one JSON object.

const fs = require('fs');
const util = require('util');
const { intoError, toFormatted } = require('./errors');

const { writeSync } = fs;
const { format } = util;
const stringify = JSON.stringify;

const HEADER_BYTES = 16;
const TEXT = 0xa55a0003;
const LOADED = 0xa55a00ff;
/** A record is cut into frames of this size: with its header it is one event of the node's. */
const TEXT_BYTES_MAX = 262144 - 26;

const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
/** Where libraries look for the call that is under way. */
const REQUEST = Symbol.for('aws.lambda.runtime.requestId');
const TENANT = Symbol.for('aws.lambda.runtime.tenantId');

function writeAll(fd, data) {
  let at = 0;
  while (at < data.length) {
    try {
      at += writeSync(fd, data, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') return; // nobody reads any more
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

/** The end of the piece of `data` that begins at `start`: at most TEXT_BYTES_MAX long, and not inside a character. */
function pieceEnd(data, start) {
  let end = Math.min(start + TEXT_BYTES_MAX, data.length);
  while (end < data.length && end > start + 1 && (data[end] & 0xc0) === 0x80) end -= 1;
  return end;
}

class Log {
  constructor(fd) {
    this._fd = fd;
  }

  /** Write `text` as one event. */
  record(text, now) {
    const data = Buffer.from(text);
    let start = 0;
    do {
      const end = pieceEnd(data, start);
      this._frame(TEXT, data.subarray(start, end), now);
      start = end;
    } while (start < data.length);
  }

  /** Tell the log's reader that loading is over: what follows belongs to calls. */
  markLoaded() {
    this._frame(LOADED, Buffer.alloc(0), Date.now());
  }

  _frame(kind, data, now) {
    const frame = Buffer.allocUnsafe(HEADER_BYTES + data.length);
    frame.writeUInt32BE(kind, 0);
    frame.writeUInt32BE(data.length, 4);
    frame.writeBigUInt64BE(BigInt(now) * 1000n, 8);
    frame.set(data, HEADER_BYTES);
    writeAll(this._fd, frame);
  }
}

function textOf(time, request, level, message, params) {
  return `${time}\t${request}\t${level}\t${format(message, ...params)}\n`;
}

/** A replacer that shows what is in an error. */
function showErrors(_key, value) {
  if (!(value instanceof Error)) return value;
  const stackTrace = typeof value.stack === 'string' ? value.stack.split('\n') : value.stack;
  const errorType = value.constructor?.name ?? 'UnknownError';
  return Object.assign({ errorType, errorMessage: value.message, stackTrace }, value);
}

function jsonOf(time, request, level, message, params) {
  const record = { timestamp: time, level, requestId: request };
  const tenant = globalThis[TENANT];
  if (tenant !== undefined && tenant !== null) record.tenantId = tenant;
  if (params.length === 0) {
    record.message = message;
    try {
      return stringify(record, showErrors) + '\n';
    } catch {
      record.message = format(message);
      return stringify(record) + '\n';
    }
  }
  record.message = format(message, ...params);
  const error = [message, ...params].find((param) => param instanceof Error);
  if (error !== undefined) {
    record.errorType = error.constructor?.name ?? 'UnknownError';
    record.errorMessage = error.message;
    record.stackTrace = typeof error.stack === 'string' ? error.stack.split('\n') : [];
  }
  return stringify(record) + '\n';
}

/**
 * Make console write records to `log`, as the environment's variables ask. `nobody` stands for the request while there is none.
 * Returns what writes the runtime's own errors: (title, error).
 */
function patchConsole(log, nobody) {
  const asJson = process.env.AWS_LAMBDA_LOG_FORMAT?.toUpperCase() === 'JSON';
  const least = Math.max(0, LEVELS.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL?.toUpperCase()));
  const render = asJson ? jsonOf : textOf;
  const write = (level, message, params) => {
    const now = new Date();
    log.record(render(now.toISOString(), globalThis[REQUEST] ?? nobody, level, message, params), now.valueOf());
  };
  LEVELS.forEach((level, index) => {
    // FATAL is written whatever the level is: nothing is above it.
    console[level.toLowerCase()] = index >= least ? (message, ...params) => write(level, message, params) : () => {};
  });
  console.log = console.info;
  if (asJson) return (_title, error) => console.error(intoError(error));
  return (title, error) => console.error(title, toFormatted(intoError(error)));
}

/** Whose call is under way. */
function setRequest(id, tenant) {
  globalThis[REQUEST] = id;
  globalThis[TENANT] = tenant;
}

module.exports = { Log, patchConsole, setRequest };
