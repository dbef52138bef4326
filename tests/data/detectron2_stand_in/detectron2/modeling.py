"""The registry of models."""


class Registry(dict):
    def register(self):
        def add(kind):
            assert kind.__name__ not in self
            self[kind.__name__] = kind
            return kind

        return add


META_ARCH_REGISTRY = Registry()


def build_model(cfg):
    name = cfg.MODEL.META_ARCHITECTURE
    if name not in META_ARCH_REGISTRY:
        raise KeyError(f"No object named '{name}' found in 'META_ARCH' registry!")
    return META_ARCH_REGISTRY[name](cfg).to(cfg.MODEL.DEVICE)
