'use strict';
// From "a/b.c.handler" to a function: which file it is in, which kind of module that file is, and what is said when it is not so.
//
// Two generations of the contract differ: up to Node.js 22, files are required where they can be; from 24 on, all are imported.

const fs = require('fs');
const path = require('path');
const { createRequire } = require('module');
const { pathToFileURL } = require('url');
const errors = require('./errors');

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');

/** As if this were where it is on the platform: what a module was required by is told when it is not found. */
const requireLikeThere = createRequire('/var/runtime/index.mjs');
const imported = (file) => import(pathToFileURL(file).href);

/** {root, module, names} of a handler's text. */
function split(text) {
  if (text.includes('..')) {
    throw new errors.MalformedHandlerName(
      `'${text}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  }
  const last = path.basename(text);
  const match = /^([^.]*)\.(.*)$/.exec(last);
  if (!match) throw new errors.MalformedHandlerName('Bad handler');
  return { root: text.substring(0, text.indexOf(last)), module: match[1], names: match[2].split('.') };
}

/** Whether the package.json that governs `folder` makes its .js files ES modules. */
function isModuleFolder(folder) {
  for (let place = folder; !place.endsWith('/node_modules'); place = path.dirname(place)) {
    const file = path.join(place, 'package.json');
    if (fs.existsSync(file)) {
      try {
        return JSON.parse(fs.readFileSync(file, 'utf8'))?.type === 'module';
      } catch (error) {
        console.warn(`${file} cannot be read, it will be ignored for ES module detection purposes.`, error);
        return false;
      }
    }
    if (place === '/') break;
  }
  return false;
}

async function findRequiring(appRoot, { root, module }) {
  const base = path.resolve(appRoot, root, module);
  const required = (file) => (fs.existsSync(file) ? requireLikeThere(file) : undefined);
  const importedIf = (file) => (fs.existsSync(file) ? imported(file) : undefined);
  const asModule = fs.existsSync(`${base}.js`) && isModuleFolder(path.dirname(base));
  return (
    required(base) ||
    (asModule ? await importedIf(`${base}.js`) : required(`${base}.js`)) ||
    (await importedIf(`${base}.mjs`)) ||
    required(`${base}.cjs`) ||
    requireLikeThere(requireLikeThere.resolve(module, { paths: [appRoot, root] }))
  );
}

async function findImporting(appRoot, { root, module }) {
  const base = path.resolve(appRoot, root, module);
  for (const extension of ['', '.js', '.mjs', '.cjs']) {
    if (fs.existsSync(base + extension)) return imported(base + extension);
  }
  return requireLikeThere(requireLikeThere.resolve(module, { paths: [appRoot, path.join(appRoot, root)] }));
}

const within = (value, names) => names.reduce((nested, name) => nested && nested[name], value);

/**
 * The function that `text` names below `appRoot`. `recent`: as Node.js 24 and later have it.
 * Throws what errors.js has, and whatever the module's code throws.
 */
async function load(appRoot, text, recent) {
  const wanted = split(text);
  let module;
  try {
    module = await (recent ? findImporting : findRequiring)(appRoot, wanted);
  } catch (error) {
    throw loadingError(error, recent);
  }
  let handler = within(module, wanted.names);
  if (!handler && recent) handler = within(module?.default, wanted.names);
  if (!handler) throw new errors.HandlerNotFound(`${text} is undefined or not exported`);
  if (typeof handler !== 'function') throw new errors.HandlerNotFound(`${text} is not a function`);
  return handler;
}

function loadingError(error, recent) {
  if (error instanceof SyntaxError) {
    const named = new errors.UserCodeSyntaxError(error);
    if (recent) named.stack = error.stack;
    return named;
  }
  return error?.code === 'MODULE_NOT_FOUND' ? new errors.ImportModuleError(error) : error;
}

/** How a streamed answer's handler wants it: {highWaterMark}; null for a handler whose answers come whole. */
function streamingOf(handler) {
  const mark = handler[STREAMING];
  if (mark === undefined || mark === null || mark === false) return null;
  if (mark !== 'response') throw new errors.MalformedStreamingHandler('Only response streaming is supported.');
  const size = parseInt(handler[HIGH_WATER_MARK], 10);
  return { highWaterMark: Number.isNaN(size) ? undefined : size };
}

/** What a handler that streams is marked with. */
function streamifyResponse(handler, options) {
  handler[STREAMING] = 'response';
  if (typeof options?.highWaterMark === 'number') handler[HIGH_WATER_MARK] = Math.trunc(options.highWaterMark);
  return handler;
}

module.exports = { load, streamingOf, streamifyResponse };
