'use strict';
// In place of aws-lambda-ric's native addon, which needs a C++ toolchain: calls come in and answers go out by two pipes, as lines.

const fs = require('fs');
const Module = require('module');

const [input, output] = process.env.ORACLE_PIPES.split(',').map(Number);
delete process.env.ORACLE_PIPES;
const say = (told) => fs.writeSync(output, JSON.stringify(told) + '\n');

const client = {
  next: () =>
    new Promise((resolve) => {
      say({ next: true });
      let text = '';
      const buffer = Buffer.alloc(65536);
      const more = () =>
        fs.read(input, buffer, 0, buffer.length, null, (error, size) => {
          text += buffer.toString('utf8', 0, size);
          if (size && !text.endsWith('\n')) more();
          else if (text) resolve(JSON.parse(text));
        });
      more();
    }),
  done: (id, body) => {
    if (typeof body !== 'string') throw new Error('A string was expected'); // as the addon's interface to JavaScript says it
    say({ id, body });
  },
  error: (id, body) => say({ id, error: body }),
};

Module._extensions['.node'] = (module) => {
  module.exports = client;
};
const resolve = Module._resolveFilename;
Module._resolveFilename = function (name, ...rest) {
  return name === './rapid-client.node' ? '/oracle/rapid-client.node' : resolve.call(this, name, ...rest);
};
