'use strict';
// A streamed answer: what a streaming handler writes to, within the credit that the node gives. Frames: docs/explain/streaming.md.
//
// A failure before the first byte is an ordinary RESULT with ERROR. For a caller who wants the answer whole it is gathered here.

const { Writable } = require('stream');
const frames = require('./frames');
const { InvalidStreamingOperation, toPayload } = require('./errors');

const PRELUDE_TYPE = 'application/vnd.awslambda.http-integration-response';
const DELIMITER_BYTES = 8;
/** The node takes no larger meta than 256 KiB. */
const DETAILS_BYTES_MAX = 200000;

const isBytes = (chunk) => typeof chunk === 'string' || chunk instanceof Uint8Array;

class ResponseStream extends Writable {
  /** `settle` is called once, when the node has been told how it ended. `whole`: takes the answer in one piece instead. */
  constructor(wire, invocation, { highWaterMark, settle, whole }) {
    super({ decodeStrings: true, ...(highWaterMark > 0 ? { highWaterMark } : {}) });
    this._wire = wire;
    this._invocation = invocation;
    this._settle = settle;
    this._whole = whole;
    this._gathered = [];
    this._contentType = 'application/octet-stream';
    this._credit = frames.CREDIT_BYTES;
    this._waiting = null;
    this._begun = false;
    this._over = false;
    this._written = false;
    /** Set by whoever has something to say in front of the first byte; called with a function that writes. */
    this._onBeforeFirstWrite = undefined;
    this.on('error', () => {}); // of a handler that destroys it: told by how it ends
  }

  setContentType(type) {
    if (this._written) throw new InvalidStreamingOperation('Cannot set content-type, too late.');
    this._contentType = type;
  }

  write(chunk, encoding, callback) {
    const data = isBytes(chunk) ? chunk : JSON.stringify(chunk);
    if (!this._written) {
      this._written = true;
      if (typeof this._onBeforeFirstWrite === 'function') this._onBeforeFirstWrite((piece) => super.write(piece));
    }
    return super.write(data, encoding, callback);
  }

  /** The node took so many bytes. */
  grant(size) {
    this._credit += size;
    const waiting = this._waiting;
    this._waiting = null;
    if (waiting) waiting();
  }

  /** End it as failed: the node is told of `error`, and `then` is called. */
  fail(error, then) {
    if (this._over) return then && then();
    const payload = toPayload(error);
    if (!this._begun) {
      this._over = true;
      const body = JSON.stringify(payload);
      this._wire.send(frames.packMeta(frames.RESULT, this._invocation, '', body, frames.ERROR), () => this._told(then));
      return undefined;
    }
    // What was written before goes out before; one that nobody reads is not waited for.
    const end = () => this._finishWith(frames.ERROR, ending(payload), then);
    if (this.destroyed || this.writableFinished) end();
    else this._ending = end;
    if (!this.destroyed && !this.writableFinished) super.end();
    return undefined;
  }

  _write(chunk, _encoding, callback) {
    if (this._whole || this._over) {
      if (!this._over) this._gathered.push(chunk); // what is written behind the end is nobody's
      callback();
      return;
    }
    this._begin();
    this._sendFrom(chunk, 0, callback);
  }

  _final(callback) {
    if (this._ending) {
      this._ending();
      callback();
      return;
    }
    if (this._over) {
      callback();
      return;
    }
    if (this._whole) {
      this._over = true;
      this._whole(Buffer.concat(this._gathered));
      callback();
      return;
    }
    this._begin();
    this._finishWith(0, '{}', callback);
  }

  _destroy(error, callback) {
    if (!this._over) {
      const cut = new Error(error?.message ?? 'The response stream was destroyed before it was finished.');
      cut.name = 'Runtime.TruncatedResponse';
      if (this._begun) this._finishWith(frames.ERROR, ending(toPayload(cut)));
      else this.fail(cut);
    }
    callback(error);
  }

  _begin() {
    if (this._begun) return;
    this._begun = true;
    const meta = JSON.stringify({ content_type: this._contentType });
    this._wire.send(frames.packMeta(frames.RESULT, this._invocation, meta, '', frames.MORE));
  }

  _sendFrom(chunk, start, callback) {
    let at = start;
    while (at < chunk.length) {
      const size = Math.min(frames.CHUNK_BYTES, chunk.length - at, this._credit);
      // A piece that is only as large as the credit happens to be would make many small frames of a large chunk.
      if (size < Math.min(frames.CHUNK_BYTES, chunk.length - at)) {
        this._waiting = () => this._sendFrom(chunk, at, callback);
        return;
      }
      this._credit -= size;
      const piece = frames.pack(frames.BODY, this._invocation, chunk.subarray(at, at + size));
      at += size;
      if (at === chunk.length) {
        this._wire.send(piece, callback);
        return;
      }
      this._wire.send(piece);
    }
    callback();
  }

  _finishWith(flags, last, then) {
    if (this._over) return then && then();
    this._over = true;
    this._wire.send(frames.pack(frames.BODY, this._invocation, '', frames.LAST | flags));
    this._wire.send(frames.pack(frames.END, this._invocation, last, flags), () => this._told(then));
    return undefined;
  }

  _told(then) {
    this._settle();
    if (then) then();
  }
}

/** The last frame's meta for a stream that failed. */
function ending(payload) {
  let error = JSON.stringify(payload);
  if (Buffer.byteLength(error) > DETAILS_BYTES_MAX) {
    error = JSON.stringify({ ...payload, errorMessage: payload.errorMessage?.slice(0, DETAILS_BYTES_MAX / 8), trace: [] });
  }
  return JSON.stringify({ error_type: payload.errorType, error });
}

/** Puts status and headers in front of a streamed body. */
class HttpResponseStream {
  static from(underlyingStream, prelude) {
    underlyingStream.setContentType(PRELUDE_TYPE);
    const text = JSON.stringify(prelude);
    underlyingStream._onBeforeFirstWrite = (write) => {
      write(text);
      write(new Uint8Array(DELIMITER_BYTES));
    };
    return underlyingStream;
  }
}

module.exports = { ResponseStream, HttpResponseStream };
