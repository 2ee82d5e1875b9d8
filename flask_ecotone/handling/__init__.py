"""One endpoint from the inside: interceptors, arguments, the call itself."""
