"""What a program with aioboto3 does with functions; prints what it saw as JSON."""

import asyncio
import json
import sys
from pathlib import Path

import aioboto3


async def main(name):
    seen = {"stream": "", "listed": []}
    async with aioboto3.Session().client("lambda") as client:
        await client.create_function(
            FunctionName=name, Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
            Code={"ZipFile": Path("code.zip").read_bytes()},
        )  # fmt: skip
        await client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        calls = [client.invoke(FunctionName=name, Payload=json.dumps(number)) for number in range(10)]
        seen["answers"] = [json.loads(await called["Payload"].read()) for called in await asyncio.gather(*calls)]
        streamed = await client.invoke_with_response_stream(FunctionName=name, Payload=b"1")
        async for event in streamed["EventStream"]:
            seen["stream"] += event.get("PayloadChunk", {}).get("Payload", b"").decode()
        async for page in client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1}):
            seen["listed"] += [function["FunctionName"] for function in page["Functions"]]
        await client.delete_function(FunctionName=name)
    print(json.dumps(seen))


asyncio.run(main(sys.argv[1]))
