# `fewshot serve` for one exported file, without PyTorch (docs/deploying.md#a-container):
#   docker build --tag fewshot-serve .
#   docker run --rm --read-only --publish 127.0.0.1:8000:8000 --env FEWSHOT_TOKEN \
#     --volume "$PWD/model.onnx:/models/model.onnx:ro" fewshot-serve
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /source
COPY . .
# serve,heic also reads an iPhone's HEIC
ARG EXTRAS=serve
# Serving needs neither the bundled initializations nor the test data of onnx: 43 MiB.
RUN python -m pip install --no-cache-dir --constraint constraints.txt hatchling \
 && python -m hatchling build --target wheel --directory /wheels \
 && python -m venv --without-pip /opt/fewshot \
 && python -m pip --python /opt/fewshot/bin/python install --no-cache-dir --no-compile \
    --constraint constraints.txt "$(echo /wheels/*.whl)[${EXTRAS}]" \
 && rm -r /opt/fewshot/lib/python3*/site-packages/fewshot_sdk/models \
    /opt/fewshot/lib/python3*/site-packages/onnx/backend/test

FROM ${BASE}
COPY --from=build /opt/fewshot /opt/fewshot
ENV PATH=/opt/fewshot/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    HOME=/tmp
WORKDIR /models
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
# Without a token in FEWSHOT_TOKEN it stops at once, for it would listen to other machines.
ENTRYPOINT ["fewshot", "serve"]
CMD ["/models/model.onnx", "--host", "0.0.0.0", "--port", "8000"]
