# The connector on Airbyte's Python connector base image (Python 3.11, uid 1000 `airbyte`).
#
#   docker build -t source-timescaledb .      or `make image`, which also tests it
#
# It is installed into an environment of its own, from the hashed lock: the base image brings tools with pinned
# dependencies, and neither side should bend the other's. The second stage takes over that environment and nothing else,
# and runs it as a user who can write none of it. What that user cannot write is compiled beforehand, by pip. Left out is
# what nothing imports: what builds and installs, and the tests that packages bring along.

ARG BASE_IMAGE=docker.io/airbyte/python-connector-base:4.0.2@sha256:9fdb1888c4264cf6fee473649ecb593f56f58e5d0096a87ee0b231777e2e3e73

FROM ${BASE_IMAGE} AS builder
WORKDIR /build
RUN python -m venv /opt/source-timescaledb
ENV PATH=/opt/source-timescaledb/bin:$PATH
COPY requirements-build.lock requirements-runtime.lock ./
RUN pip install --no-cache-dir --require-hashes --only-binary :all: \
    -r requirements-build.lock -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY source_timescaledb source_timescaledb
RUN pip install --no-cache-dir --no-index --no-deps --no-build-isolation . \
    && find /opt/source-timescaledb -type d -name tests -prune -exec rm -r {} + \
    && pip uninstall --yes poetry-core pip

FROM ${BASE_IMAGE}
COPY --from=builder /opt/source-timescaledb /opt/source-timescaledb
WORKDIR /airbyte/integration_code
USER airbyte
ENV AIRBYTE_ENTRYPOINT="/opt/source-timescaledb/bin/source-timescaledb"
ENTRYPOINT ["/opt/source-timescaledb/bin/source-timescaledb"]

LABEL io.airbyte.version=0.1.0
LABEL io.airbyte.name=source-timescaledb
