"""Tools that tests use: pieces with a documented interface of their own."""
