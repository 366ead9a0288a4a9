"""Plain HTTP: `ANY /fn/NAME[:QUALIFIER][/path]` reaches a function as a web server."""
