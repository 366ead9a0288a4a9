"""A WSGI application: what Flask or Django are underneath."""


def app(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    print(environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/"), len(body), "bytes")
    answer = f"Hello from WSGI: {environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '/')}, {len(body)} bytes\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(answer)))])
    return [answer]
