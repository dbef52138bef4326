# An image that runs the harness, with or without a GPU, and without a network (docs/offline.md):
#
#     docker build -t harness .                                  PyTorch's default build: CUDA, and the CPU
#     docker build -t harness --build-arg TORCH_INDEX=URL .      another build of PyTorch, from the index that its
#                                                                installation page names; the CPU build is several GB smaller
#     docker build -t harness --build-arg EXTRAS=cuda,sam3 .     other extras
#     docker run --rm --network none --user "$(id -u):$(id -g)" -v "$PWD":/data harness run --model clipvis --dataset shapes
#     docker run --rm --gpus all --shm-size 8g -v "$PWD":/data harness run --model clipvis --dataset lvvis --data-root /data ...
FROM python:3.12-slim
ARG TORCH_INDEX=
ARG EXTRAS=cuda
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /source
COPY . .
# The bounds on versions are those of pyproject.toml.
# hadolint ignore=DL3013
RUN if [ -n "$TORCH_INDEX" ]; then pip install torch torchvision --index-url "$TORCH_INDEX"; fi \
    && pip install ".[$EXTRAS]" \
    && rm -rf /source
# Caches of compiled kernels and of text embeddings are in the home folder. Whoever starts the container, under any user id
# (--user), can write there and in /data, where the runs go.
RUN useradd --uid 1000 --create-home user && mkdir /data && chmod 1777 /data
USER 1000
ENV HOME=/home/user
WORKDIR /data
# This fails where something would be fetched. The kernels of scoring that it compiles stay in the image.
RUN --network=none harness run --model clipvis --dataset shapes --limit 2 --no-mlflow --runs-dir /tmp/runs \
    && rm -r /tmp/runs && chmod -R a+rwX /home/user
ENTRYPOINT ["harness"]
CMD ["--help"]
