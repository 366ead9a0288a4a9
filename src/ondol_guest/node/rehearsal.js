'use strict';
// A process that waits for its function does, once and for nobody, what it will do for the first call: code that has run is compiled,
// and what the first use of something makes is made. Nothing of it is left that a function could see.

const fs = require('fs');
const path = require('path');
const frames = require('./frames');
const loader = require('./loader');
const { Log, patchConsole, setRequest } = require('./log');
const { Runtime, RecentRuntime } = require('./runtime');

const META = '{"id":"00000000-0000-4000-8000-000000000000","deadline_ms":0,"arn":"","trace":"Root=0"}';
const EVENT = '{"text":"x","number":1.5,"list":[null,true,{"a":1}]}';

/** Takes frames, as a wire does, and sends none. */
class Nowhere {
  hold() {}

  send(_data, then) {
    if (then) then();
  }
}

async function rehearse() {
  const before = { ...console };
  const symbols = Object.getOwnPropertySymbols(globalThis);
  const nowhere = fs.openSync('/dev/null', 'w');
  try {
    const logError = patchConsole(new Log(nowhere), undefined);
    for (const recent of [false, true]) {
      const handler = await loader.load(__dirname, 'rehearsed.handler', recent);
      const runtime = new (recent ? RecentRuntime : Runtime)(new Nowhere(), handler, loader.streamingOf(handler), logError);
      runtime.scheduleIteration();
      const reader = new frames.FrameReader((...frame) => runtime.take(...frame));
      reader.feed(frames.packMeta(frames.CALL, 1n, META, EVENT));
      await new Promise(setImmediate);
    }
  } finally {
    fs.closeSync(nowhere);
    Object.assign(console, before);
    if (!('fatal' in before)) delete console.fatal;
    setRequest(undefined, undefined);
    for (const symbol of Object.getOwnPropertySymbols(globalThis)) if (!symbols.includes(symbol)) delete globalThis[symbol];
    delete process.env._X_AMZN_TRACE_ID;
    delete require.cache[path.join(__dirname, 'rehearsed.js')];
  }
}

module.exports = { rehearse };
