'use strict';
// The framed messages between the node and this guest: what ondol_guest/frames.py defines, as far as a Node.js guest needs it.

const VERSION = 1;
const HEADER_BYTES = 16;
/** A header and the length of the meta object behind it. */
const HEADER_META_BYTES = HEADER_BYTES + 4;

const INIT = 1;
const CALL = 2;
const STOP = 3;
const BODY = 4;
const CREDIT = 5;
const READY = 16;
const RESULT = 18;
const END = 19;
const INIT_FAILED = 20;

const MORE = 1;
const LAST = 2;
const ERROR = 4;

const FRAME_BYTES_MAX = 8 * 1024 * 1024;
const CREDIT_BYTES = 256 * 1024;
const CHUNK_BYTES = 64 * 1024;

/** The head of a frame whose payload is `length` bytes, written into `buffer`. */
function writeHeader(buffer, kind, flags, length, invocation) {
  buffer[0] = VERSION;
  buffer[1] = kind;
  buffer.writeUInt16LE(flags, 2);
  buffer.writeUInt32LE(length, 4);
  buffer.writeBigUInt64LE(invocation, 8);
}

/** One frame as bytes; `payload` is text or bytes. */
function pack(kind, invocation = 0n, payload = '', flags = 0) {
  const text = typeof payload === 'string';
  const length = text ? Buffer.byteLength(payload) : payload.length;
  const frame = Buffer.allocUnsafe(HEADER_BYTES + length);
  writeHeader(frame, kind, flags, length, invocation);
  if (text) frame.write(payload, HEADER_BYTES);
  else frame.set(payload, HEADER_BYTES);
  return frame;
}

/** One frame with a meta object (JSON text, '' for none) and a body (text or bytes). */
function packMeta(kind, invocation, meta, body = '', flags = 0) {
  const metaLength = Buffer.byteLength(meta);
  const text = typeof body === 'string';
  const length = 4 + metaLength + (text ? Buffer.byteLength(body) : body.length);
  const frame = Buffer.allocUnsafe(HEADER_BYTES + length);
  writeHeader(frame, kind, flags, length, invocation);
  frame.writeUInt32LE(metaLength, HEADER_BYTES);
  frame.write(meta, HEADER_META_BYTES);
  if (text) frame.write(body, HEADER_META_BYTES + metaLength);
  else frame.set(body, HEADER_META_BYTES + metaLength);
  return frame;
}

/** [meta text, body bytes] of a CALL's payload. */
function splitMeta(payload) {
  const size = payload.length < 4 ? -1 : payload.readUInt32LE(0);
  if (size < 0 || size > payload.length - 4) throw new Error(`a frame of ${payload.length} bytes has no whole meta object`);
  return [payload.toString('utf8', 4, 4 + size), payload.subarray(4 + size)];
}

/** Bytes in, frames out: `feed` calls `take(kind, flags, invocation, payload)` for every whole one. Keeps no view of its input. */
class FrameReader {
  constructor(take) {
    this._take = take;
    this._head = Buffer.allocUnsafe(HEADER_BYTES);
    this._headLength = 0;
    this._payload = null;
    this._payloadLength = 0;
  }

  feed(data) {
    let at = 0;
    while (at < data.length || (this._payload && this._payloadLength === this._payload.length)) {
      if (this._payload === null) {
        at += this._readHead(data, at);
        continue;
      }
      const size = Math.min(this._payload.length - this._payloadLength, data.length - at);
      data.copy(this._payload, this._payloadLength, at, at + size);
      this._payloadLength += size;
      at += size;
      if (this._payloadLength === this._payload.length) this._emit();
    }
  }

  _readHead(data, at) {
    const size = Math.min(HEADER_BYTES - this._headLength, data.length - at);
    data.copy(this._head, this._headLength, at, at + size);
    this._headLength += size;
    if (this._headLength === HEADER_BYTES) {
      if (this._head[0] !== VERSION) throw new Error(`frame version ${this._head[0]}, expected ${VERSION}`);
      const length = this._head.readUInt32LE(4);
      if (length > FRAME_BYTES_MAX) throw new Error(`frame of ${length} bytes, at most ${FRAME_BYTES_MAX} are allowed`);
      this._payload = Buffer.allocUnsafeSlow(length);
      this._payloadLength = 0;
    }
    return size;
  }

  _emit() {
    const payload = this._payload;
    this._payload = null;
    this._headLength = 0;
    this._take(this._head[1], this._head.readUInt16LE(2), this._head.readBigUInt64LE(8), payload);
  }
}

module.exports = {
  INIT, CALL, STOP, BODY, CREDIT, READY, RESULT, END, INIT_FAILED, MORE, LAST, ERROR,
  CREDIT_BYTES, CHUNK_BYTES, pack, packMeta, splitMeta, FrameReader,
};
