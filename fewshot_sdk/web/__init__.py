"""Pages and the server."""
