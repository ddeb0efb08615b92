# One image for every process: `docker run jiazhu api.main`, `workers.main`, `station_gateway.server.main`, ...
FROM python:3.11.14-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements/bootstrap.txt requirements/base.txt ./
RUN python -m venv /opt/jiazhu \
 && python -m pip install --require-hashes -r bootstrap.txt \
 && VIRTUAL_ENV=/opt/jiazhu uv pip sync --no-cache --require-hashes --compile-bytecode base.txt

FROM python:3.11.14-slim-bookworm
ENV PATH=/opt/jiazhu/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=build /opt/jiazhu /opt/jiazhu
COPY LICENSE NOTICE alembic.ini ./
COPY domain domain
COPY contracts contracts
COPY config config
COPY db db
COPY activities activities
COPY workflows workflows
COPY adapters adapters
COPY workers workers
COPY api api
COPY station_gateway station_gateway
COPY sandbox sandbox
# Byte code is made here: Temporal's workflow sandbox imports workflow files again and again.
RUN python -m compileall -q . \
 && useradd --uid 10001 --create-home jiazhu \
 && install -d -o jiazhu /var/lib/jiazhu/oscore /var/lib/jiazhu/station /var/lib/jiazhu/wechat
USER jiazhu
ENTRYPOINT ["python", "-m"]
CMD ["api.main"]
