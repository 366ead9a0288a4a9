'use strict';
// The context object that a handler gets: members, their order and their texts are part of the contract.

const trace = require('./trace');

const parse = JSON.parse;

/** Out of its JSON text when it is one; undefined for nothing. */
function parsed(value, name) {
  if (typeof value !== 'string') return value ?? undefined;
  try {
    return parse(value);
  } catch (error) {
    throw new Error(`Cannot parse ${name} as json: ${error.toString()}`);
  }
}

function ofEnvironment() {
  return {
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
  };
}

function ofCall(meta) {
  const { now } = Date;
  return {
    clientContext: parsed(meta.client_context, 'ClientContext'),
    identity: parsed(meta.identity, 'CognitoIdentity'),
    invokedFunctionArn: meta.arn,
    awsRequestId: meta.id,
    tenantId: meta.tenant ?? undefined,
    getRemainingTimeInMillis: () => meta.deadline_ms - now(),
  };
}

/** `base` (what the way of answering adds) with all that the platform says about the call. */
function attach(base, meta) {
  trace.show(meta.trace);
  return Object.assign(base, ofEnvironment(), ofCall(meta));
}

/** The same as Node.js 24 and later have it. */
function build(meta) {
  const call = ofCall(meta);
  const { getRemainingTimeInMillis } = call;
  delete call.getRemainingTimeInMillis;
  trace.show(meta.trace);
  const { functionName, functionVersion, memoryLimitInMB, logGroupName, logStreamName } = ofEnvironment();
  const environment = { functionName, functionVersion, memoryLimitInMB, logGroupName, logStreamName };
  return Object.assign(call, { xRayTraceId: meta.trace ?? undefined, getRemainingTimeInMillis }, environment);
}

module.exports = { attach, build };
