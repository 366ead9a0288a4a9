// What a program with AWS's SDK for JavaScript does with functions; prints what it saw as JSON.
import {
  CreateFunctionCommand, DeleteFunctionCommand, GetFunctionCommand, InvokeCommand, InvokeWithResponseStreamCommand, LambdaClient,
  ResourceNotFoundException, paginateListFunctions, waitUntilFunctionActiveV2,
} from "@aws-sdk/client-lambda";
import { readFileSync } from "node:fs";

const [name, archive] = process.argv.slice(2);
const client = new LambdaClient({});
const seen = {};
await client.send(new CreateFunctionCommand({
  FunctionName: name, Runtime: "python3.11", Handler: "app.handler", Role: "arn:aws:iam::000000000000:role/any",
  Code: { ZipFile: readFileSync(archive) },
}));
await waitUntilFunctionActiveV2({ client, maxWaitTime: 60, minDelay: 0.05, maxDelay: 1 }, { FunctionName: name });
const called = await client.send(new InvokeCommand({ FunctionName: name, Payload: '{"n": 1}', LogType: "Tail" }));
seen.answer = JSON.parse(called.Payload.transformToString());
seen.log = Buffer.from(called.LogResult, "base64").toString();
const streamed = await client.send(new InvokeWithResponseStreamCommand({ FunctionName: name, Payload: '{"n": 2}' }));
seen.stream = "";
for await (const event of streamed.EventStream) {
  if (event.PayloadChunk) seen.stream += Buffer.from(event.PayloadChunk.Payload).toString();
  if (event.InvokeComplete) seen.complete = true;
}
seen.listed = [];
for await (const page of paginateListFunctions({ client, pageSize: 1 }, {})) seen.listed.push(...page.Functions.map((each) => each.FunctionName));
await client.send(new DeleteFunctionCommand({ FunctionName: name }));
try {
  await client.send(new GetFunctionCommand({ FunctionName: name }));
} catch (error) {
  seen.missing = error instanceof ResourceNotFoundException;
}
console.log(JSON.stringify(seen));
