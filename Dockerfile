# One target per image: docker build --target probes -t farcall/probes:VERSION .   (probes, exporter, console, operator)
# Each image holds its own rooms and what they import, and nothing of the others; tests/unit/test_operator_images.py
# reads this file and checks that.

# Nothing here needs BuildKit. deploy/build-bases.sh makes stand-ins for the three where no registry answers.
ARG DEBIAN=debian:bookworm-slim
ARG NODE=node:22-bookworm-slim
ARG PYTHON=python:3.11-slim-bookworm

# ---- what is built once ----------------------------------------------------------------------------------------------

# BCC compiles the BPF programs here, unprivileged and without kernel headers. No node ever compiles.
FROM ${DEBIAN} AS bpf
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-bpfcc \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY probes probes
RUN cd probes && python3 -m farcall_probes.compile

# The console's scripts and styles.
FROM ${NODE} AS web
WORKDIR /src/console/web
COPY console/web/package.json console/web/package-lock.json ./
RUN npm ci --no-audit --no-fund --loglevel=error
COPY console/web ./
RUN npm run --silent build

# The packages of each image, in the versions and with the hashes of the lock.
FROM ${PYTHON} AS packages
RUN python -m venv /pip
WORKDIR /src
COPY pyproject.toml requirements.lock ./
COPY deploy/pick_requirements.py deploy/
RUN for image in probes "exporter store" console operator; do \
         python deploy/pick_requirements.py $image > /tmp/requirements.txt \
         && /pip/bin/pip install --no-cache-dir --no-compile --require-hashes --target /packages/${image%% *} \
              -r /tmp/requirements.txt || exit 1; \
       done
COPY deploy/trim_packages.py deploy/
RUN python deploy/trim_packages.py /packages/*

# The wheel with everything in it, unpacked: the images below take rooms from it.
FROM packages AS wheel
RUN python deploy/pick_requirements.py hatchling > /tmp/build.txt \
    && /pip/bin/pip install --no-cache-dir --require-hashes -r /tmp/build.txt
COPY . .
COPY --from=bpf /src/probes/farcall_probes/bpf/artefact.json probes/farcall_probes/bpf/artefact.json
COPY --from=web /src/console/farcall_console/static/build console/farcall_console/static/build
RUN /pip/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel . \
    && python -m zipfile -e /wheel/*.whl /rooms \
    && python deploy/trim_packages.py /rooms

# ---- the images ------------------------------------------------------------------------------------------------------

# Python, our user, and the language that all rooms share. Numbers, not names: Kubernetes checks runAsNonRoot by number.
FROM ${PYTHON} AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/farcall/bin:$PATH
RUN python -m venv --without-pip /opt/farcall \
    && groupadd --gid 10001 farcall && useradd --uid 10001 --gid 10001 --no-create-home farcall
COPY deploy/farcall /opt/farcall/bin/farcall
COPY --from=wheel /rooms/farcall-*.dist-info /opt/farcall/lib/python3.11/site-packages/farcall.dist-info
COPY --from=wheel /rooms/farcall /opt/farcall/lib/python3.11/site-packages/farcall
ENTRYPOINT ["farcall"]

# User 0: the tracing file system is open to root alone. Which capabilities it needs is in the manifests.
FROM base AS probes
COPY --from=packages /packages/probes /opt/farcall/lib/python3.11/site-packages
COPY --from=wheel /rooms/farcall_probes /opt/farcall/lib/python3.11/site-packages/farcall_probes
CMD ["agent", "--help"]

# The store is a process of its own, beside the exporter in one pod and from one image.
FROM base AS exporter
COPY --from=packages /packages/exporter /opt/farcall/lib/python3.11/site-packages
COPY --from=wheel /rooms/farcall_exporter /opt/farcall/lib/python3.11/site-packages/farcall_exporter
COPY --from=wheel /rooms/farcall_store /opt/farcall/lib/python3.11/site-packages/farcall_store
USER 10001:10001
CMD ["exporter", "--help"]

FROM base AS console
COPY --from=packages /packages/console /opt/farcall/lib/python3.11/site-packages
COPY --from=wheel /rooms/farcall_console /opt/farcall/lib/python3.11/site-packages/farcall_console
COPY --from=wheel /rooms/farcall_store /opt/farcall/lib/python3.11/site-packages/farcall_store
COPY --from=wheel /rooms/farcall_templates /opt/farcall/lib/python3.11/site-packages/farcall_templates
USER 10001:10001
CMD ["console", "--help"]

FROM base AS operator
COPY --from=packages /packages/operator /opt/farcall/lib/python3.11/site-packages
COPY --from=wheel /rooms/farcall_operator /opt/farcall/lib/python3.11/site-packages/farcall_operator
COPY --from=wheel /rooms/farcall_templates /opt/farcall/lib/python3.11/site-packages/farcall_templates
USER 10001:10001
CMD ["render", "--help"]
