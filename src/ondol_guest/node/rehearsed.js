'use strict';
// What a rehearsal calls.

exports.handler = async (event, context) => {
  console.log('rehearsed', event, context.awsRequestId);
  return { event, left: context.getRemainingTimeInMillis() };
};
