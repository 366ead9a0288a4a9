'use strict';
// Hooks of Node.js's module loader: a bare name that is not found from where it is imported is tried from other parents.

const isBare = (specifier) => !/^(\.|\/|[a-z][a-z0-9+.-]*:|#)/i.test(specifier);

let parents = [];

/** Called in the loader's own thread, where hooks run on older releases. */
function initialize(data) {
  parents = data;
}

async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    if (error?.code !== 'ERR_MODULE_NOT_FOUND' || !isBare(specifier)) throw error;
    for (const parentURL of parents) {
      try {
        return await next(specifier, { ...context, parentURL });
      } catch (other) {
        if (other?.code !== 'ERR_MODULE_NOT_FOUND') throw other;
      }
    }
    throw error;
  }
}

/** The same for releases whose hooks are called in place. */
function syncHooks(places) {
  return {
    resolve(specifier, context, next) {
      try {
        return next(specifier, context);
      } catch (error) {
        if (error?.code !== 'ERR_MODULE_NOT_FOUND' || !isBare(specifier)) throw error;
        for (const parentURL of places) {
          try {
            return next(specifier, { ...context, parentURL });
          } catch (other) {
            if (other?.code !== 'ERR_MODULE_NOT_FOUND') throw other;
          }
        }
        throw error;
      }
    },
  };
}

module.exports = { initialize, resolve, syncHooks };
