"""What is kept: every SQL statement, one file a concept; PostgreSQL and SQLite."""
