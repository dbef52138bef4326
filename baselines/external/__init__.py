"""Other people's code as a model: any command line, in any environment, that reads a job and writes results.json."""
