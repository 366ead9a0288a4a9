'use strict';
// ES modules are found along NODE_PATH, too: Node.js itself looks there for what is required only.

const fs = require('fs');
const Module = require('module');
const path = require('path');
const { pathToFileURL } = require('url');

/** What is imported by a bare name, and is nowhere on the way up from its importer, is looked for in NODE_PATH's folders. */
function resolveByNodePath() {
  const folders = (process.env.NODE_PATH ?? '').split(':').filter((place) => place.endsWith('/node_modules') && fs.existsSync(place));
  if (!folders.length) return;
  // A file in the folder that holds node_modules/: resolving from there looks into it first.
  const parents = folders.map((place) => pathToFileURL(path.join(path.dirname(place), 'index.mjs')).href);
  if (Module.registerHooks) Module.registerHooks(require('./resolving').syncHooks(parents));
  else if (Module.register) Module.register(pathToFileURL(path.join(__dirname, 'resolving.js')).href, { data: parents });
}

module.exports = { resolveByNodePath };
