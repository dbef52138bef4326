"""External code as a model: any command, in any environment, that reads a job file and writes results.json."""
