# docker build -t tlkit .                             for processors
# docker build -t tlkit:gpu --build-arg DEVICE=gpu .  for NVIDIA GPUs (run it with --gpus all)
# docker build -t tlkit:answer --target answer .      predict, serve and verify alone, without TensorFlow and Keras

ARG PYTHON_VERSION=3.11
ARG DEVICE=cpu

FROM python:${PYTHON_VERSION}-slim AS wheel
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY docker/build.lock docker/
RUN pip install --require-hashes --only-binary :all: -r docker/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY datasets/recipes datasets/recipes
COPY tlkit tlkit
RUN pip wheel --no-build-isolation --no-deps --wheel-dir /tmp/wheels .

# The packages before tlkit itself: their layers change only when the lock does. No pip goes along.
FROM python:${PYTHON_VERSION}-slim AS answering
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY docker/answer.lock docker/
RUN python -m venv --without-pip /opt/tlkit \
 && pip --python /opt/tlkit/bin/python install --require-hashes --only-binary :all: -r docker/answer.lock
# Left out, for answers never load it: ONNX Runtime's tools for making files, and its library for programs in C, a second copy
# of what Python loads; compilers of Fortran wrappers and extensions, colours for source code, stubs, tests of others.
# hadolint ignore=DL3003
RUN cd "$(/opt/tlkit/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
 && rm -rf onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/datasets \
        onnxruntime/capi/libonnxruntime.so.* numpy/f2py numpy/distutils pygments markdown_it \
 && find . -name '*.pyi' -delete \
 && find . -type d \( -name tests -o -name test_data \) -prune -exec rm -rf {} +
COPY --from=wheel /tmp/wheels /tmp/wheels
RUN pip --python /opt/tlkit/bin/python install --no-deps /tmp/wheels/*.whl

FROM python:${PYTHON_VERSION}-slim AS build
ARG DEVICE
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY docker/${DEVICE}.lock docker/
RUN python -m venv --without-pip /opt/tlkit \
 && pip --python /opt/tlkit/bin/python install --require-hashes --only-binary :all: -r "docker/${DEVICE}.lock"

# Left out, for tlkit never loads it: C++ headers; tests of others; libclang and grpc, which TensorFlow lists, and its
# quantisation of StableHLO and operations of tf2xla; Arrow's Flight, S3 and second copies for linkers. And symbol tables,
# which only a debugger reads (a quarter of a gigabyte). docker/check.sh runs every command without them.
# hadolint ignore=DL3003,DL3008
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils \
 && cd "$(/opt/tlkit/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
 && rm -rf tensorflow/include pyarrow/include clang grpc \
        tensorflow/compiler/mlir/stablehlo/stablehlo_extension.so tensorflow/compiler/tf2xla/ops/_xla_ops.so \
        pyarrow/libarrow_flight.so* pyarrow/libarrow_python_flight.so* pyarrow/_flight.*.so \
        pyarrow/libarrow_s3.so* pyarrow/_s3fs.*.so pyarrow/libarrow_python*.so pyarrow/libarrow_python*.so.*.* \
 && find . -type d \( -name tests -o -name test_data \) -prune -exec rm -rf {} + \
 && find tensorflow pyarrow kiwisolver -type f -name '*.so*' -exec strip --strip-unneeded {} +

COPY --from=wheel /tmp/wheels /tmp/wheels
RUN pip --python /opt/tlkit/bin/python install --no-deps /tmp/wheels/*.whl

FROM python:${PYTHON_VERSION}-slim AS bare
LABEL org.opencontainers.image.title="tlkit" \
      org.opencontainers.image.description="A folder of images in; a classifier, a feature table and an honest report out." \
      org.opencontainers.image.licenses="Apache-2.0"

# Any --user works: nothing needs a home, a name in /etc/passwd, or a root filesystem that can be written.
# What must be written goes to /tmp; mount a folder and set TLKIT_CACHE to it to keep features between runs.
ENV PATH=/opt/tlkit/bin:$PATH \
    HOME=/tmp \
    USER=tlkit \
    KERAS_HOME=/tmp/keras \
    TLKIT_CACHE=/tmp/tlkit \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN install -d -m 0755 /data && install -d -m 1777 /out
WORKDIR /out
USER 10001:10001
ENTRYPOINT ["tlkit"]
CMD ["--help"]

FROM bare AS answer
COPY --from=answering /opt/tlkit /opt/tlkit

FROM bare
COPY --from=build /opt/tlkit /opt/tlkit
