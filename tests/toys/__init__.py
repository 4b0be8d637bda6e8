"""One toy of each table, in as many files as CONTRIBUTING asks for."""
