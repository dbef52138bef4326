# An image that runs the harness, with or without a GPU:
#
#     docker build -t harness .                                  PyTorch's default build: CUDA, and the CPU
#     docker build -t harness --build-arg TORCH_INDEX=URL .      another build of PyTorch, from the index that its
#                                                                installation page names; the CPU build is several GB smaller
#     docker run --rm -v "$PWD":/data harness run --model clipvis --dataset shapes
#     docker run --rm --gpus all -v "$PWD":/data harness run --model clipvis --dataset lvvis --data-root /data/lvvis ...
FROM python:3.12-slim
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /source
COPY . .
RUN if [ -n "$TORCH_INDEX" ]; then pip install torch --index-url "$TORCH_INDEX"; fi \
    && pip install ".[cuda]" \
    && rm -rf /source
# Runs, caches of compiled kernels and of text embeddings belong to whoever starts the container.
RUN useradd --create-home user
USER user
WORKDIR /data
ENTRYPOINT ["harness"]
CMD ["--help"]
