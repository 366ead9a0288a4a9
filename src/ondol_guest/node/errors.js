'use strict';
// What a failure looks like: to the caller, and in the log. Names, members and texts are part of the contract.

const util = require('util');

const stringify = JSON.stringify;

let recent = false;

/** Show failures as Node.js 24 and later do, or as those before. */
function follow(isRecent) {
  recent = isRecent;
}

/** A class of errors that the runtime names itself; of recent ones the name is a member, so that logs show it. */
function named(name) {
  const kind = class extends Error {
    constructor(message) {
      super(message);
      if (recent) this.name = kind.prototype.name;
    }
  };
  Object.defineProperty(kind, 'name', { value: name });
  kind.prototype.name = `Runtime.${name}`;
  return kind;
}

const ImportModuleError = named('ImportModuleError');
const HandlerNotFound = named('HandlerNotFound');
const MalformedHandlerName = named('MalformedHandlerName');
const MalformedStreamingHandler = named('MalformedStreamingHandler');
const InvalidStreamingOperation = named('InvalidStreamingOperation');
const UserCodeSyntaxError = named('UserCodeSyntaxError');
const UnhandledPromiseRejection = named('UnhandledPromiseRejection');
const CallbackHandlerDeprecated = named('CallbackHandlerDeprecated');
const JSONStringifyError = named('JSONStringifyError');

function isError(value) {
  if (util.types.isNativeError(value)) return true;
  return ['name', 'message', 'stack'].every((key) => value && value[key] && typeof value[key] === 'string');
}

function intoError(value) {
  if (value instanceof Error) return value;
  return new Error(recent ? String(value) : value);
}

const shown = (text) => text?.replace(/\x7f/g, '%7F');

/** The payload that callers get for `error`, whatever it is. */
function toPayload(error) {
  return recent ? toRecentPayload(error) : toOlderPayload(error);
}

const UNREADABLE = {
  errorType: 'handled',
  errorMessage:
    'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack',
};

function toRecentPayload(error) {
  try {
    if (!(error instanceof Error)) return { errorType: typeof error, errorMessage: String(error), trace: [] };
    const trace = shown(error.stack);
    return { errorType: shown(error.name), errorMessage: shown(error.message), trace: trace ? trace.split('\n') : [] };
  } catch {
    return { ...UNREADABLE, trace: [] };
  }
}

function toOlderPayload(error) {
  try {
    if (isError(error)) {
      return { errorType: shown(error.name), errorMessage: shown(error.message), trace: shown(error.stack).split('\n') };
    }
    return { errorType: typeof error, errorMessage: error.toString(), trace: [] };
  } catch {
    return { ...UNREADABLE };
  }
}

/** `error` for a line of the log. */
function toFormatted(error) {
  try {
    return '\t' + stringify(error, (_key, value) => withMembers(value));
  } catch {
    return '\t' + stringify(toPayload(error));
  }
}

function withMembers(value) {
  if (!(value instanceof Error)) return value;
  const members = Object.assign({ errorType: value.name, errorMessage: value.message, code: value.code }, value);
  if (typeof value.stack === 'string') members.stack = value.stack.split('\n');
  return members;
}

module.exports = {
  ImportModuleError, HandlerNotFound, MalformedHandlerName, MalformedStreamingHandler, InvalidStreamingOperation,
  UserCodeSyntaxError, UnhandledPromiseRejection, CallbackHandlerDeprecated, JSONStringifyError,
  follow, intoError, toPayload, toFormatted,
};
