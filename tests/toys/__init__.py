"""A toy entry for each table, in as many files as CONTRIBUTING asks for."""
