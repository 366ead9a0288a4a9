'use strict';
// The stream of frames to and from the node, on one descriptor.
//
// Reading is the event loop's, and counts as a reason for the process to live only while it waits for the node (`hold`): during a
// call, an empty event loop means that the function has nothing left to do. Writing is done at once as far as the socket takes it;
// the loop does the rest.

const fs = require('fs');
const net = require('net');
const frames = require('./frames');

const READ_BYTES = 64 * 1024;
const { writeSync } = fs;

class Wire {
  /** `take(kind, flags, invocation, payload)` gets every frame; `gone()` is called when nobody is left to answer to. */
  constructor(fd, take, gone) {
    this._fd = fd;
    this._gone = gone;
    this._queued = 0;
    const reader = new frames.FrameReader(take);
    const callback = (length, buffer) => {
      reader.feed(buffer.subarray(0, length));
      return true;
    };
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
    this._socket = new net.Socket({ fd, readable: true, writable: true, allowHalfOpen: false, onread: { buffer, callback } });
    this._socket.on('error', gone);
    this._socket.on('end', gone);
  }

  /** Waiting for the node keeps the process alive, or no longer does. */
  hold(on) {
    if (on) this._socket.ref();
    else this._socket.unref();
  }

  /** Send bytes that are whole frames; `then` is called once the kernel has them all. */
  send(data, then) {
    let written = 0;
    if (this._queued === 0) {
      try {
        written = writeSync(this._fd, data);
      } catch (error) {
        if (error.code !== 'EAGAIN') return this._gone(error);
      }
    }
    if (written === data.length) return then && then();
    this._queued += 1;
    this._socket.write(data.subarray(written), () => {
      this._queued -= 1;
      if (then) then();
    });
    return undefined;
  }
}

module.exports = { Wire };
