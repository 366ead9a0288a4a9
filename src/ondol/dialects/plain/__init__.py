"""Plain HTTP: `ANY /fn/NAME[:QUALIFIER][/path]` reaches a function that is a web server."""
