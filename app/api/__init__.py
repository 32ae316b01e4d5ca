"""REST: routes, schemas and errors; one file a noun."""
