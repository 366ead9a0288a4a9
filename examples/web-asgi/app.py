"""An ASGI application: what Starlette or FastAPI are underneath. It streams its answer."""


async def app(scope, receive, send):
    assert scope["type"] == "http"
    received = 0
    while True:
        message = await receive()
        received += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain; charset=utf-8")]})
    for line in ("Hello from ASGI\n", f"{scope['method']} {scope['path']}\n", f"{received} bytes\n"):
        await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})
