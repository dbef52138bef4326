"""One process only."""


def synchronize():
    pass


def gather(data, dst=0):
    return [data]


def is_main_process():
    return True
