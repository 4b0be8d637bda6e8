"""Web pages and the HTTP server."""
