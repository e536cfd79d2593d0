# One target per image: docker build --target probes -t farcall/probes:VERSION .   (probes, exporter, console, operator)
# Each image holds its own rooms and what they import, and nothing of the others; tests/unit/test_operator_images.py
# reads this file and checks that.

# Nothing here needs BuildKit. deploy/build-bases.sh makes stand-ins for the three where no registry answers.
ARG DEBIAN=debian:bookworm-slim
ARG NODE=node:22-bookworm-slim
ARG PYTHON=python:3.11-slim-bookworm
# The time of every file of ours, in seconds since 1970, so that what is built again of the same sources is the same layers
# (docs/install.md). Not the commit's: layers that it leaves alone would be others.
ARG SOURCE_DATE_EPOCH=1580601600

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

# Which packages each image needs, of the lock. A stage of its own, so that an edit of pyproject.toml that changes none of
# these lists installs nothing anew.
FROM ${PYTHON} AS requirements
WORKDIR /src
COPY pyproject.toml requirements.lock ./
COPY deploy/pick_requirements.py deploy/
RUN mkdir /requirements && for image in probes "exporter store" console operator hatchling; do \
         python deploy/pick_requirements.py $image > /requirements/${image%% *}.txt || exit 1; \
       done

# The packages themselves, by their hashes. What is copied from here on is a tree as it is from / on: of the folder that
# COPY writes to, a builder sets the time anew, and / is in no layer.
FROM ${PYTHON} AS packages
ARG SOURCE_DATE_EPOCH
ENV SITE=/opt/farcall/lib/python3.11/site-packages
RUN python -m venv /pip
COPY --from=requirements /requirements /requirements
RUN /pip/bin/pip install --no-cache-dir --require-hashes -r /requirements/hatchling.txt \
    && for image in probes exporter console operator; do \
         /pip/bin/pip install --no-cache-dir --no-compile --require-hashes --target /packages/$image$SITE \
           -r /requirements/$image.txt || exit 1; \
       done
COPY deploy/trim_packages.py /trim_packages.py
RUN python /trim_packages.py /packages/*$SITE && find /packages -exec touch -h -d @$SOURCE_DATE_EPOCH {} +

# The wheel with everything in it, unpacked into its rooms: the images below take some of them.
FROM packages AS wheel
ARG SOURCE_DATE_EPOCH
WORKDIR /src
COPY . .
COPY --from=bpf /src/probes/farcall_probes/bpf/artefact.json probes/farcall_probes/bpf/artefact.json
COPY --from=web /src/console/farcall_console/static/build console/farcall_console/static/build
RUN /pip/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel . \
    && python -m zipfile -e /wheel/*.whl /unpacked \
    && python /trim_packages.py /unpacked \
    && for room in $(cd /unpacked && ls -d farcall farcall_*); do \
         mkdir -p /rooms/$room$SITE && mv /unpacked/$room /rooms/$room$SITE || exit 1; \
       done \
    && mv /unpacked/farcall-*.dist-info /rooms/farcall$SITE/farcall.dist-info \
    && find /rooms -exec touch -h -d @$SOURCE_DATE_EPOCH {} +

# `farcall` itself, with one mode and time whoever checked it out.
FROM ${PYTHON} AS launcher
ARG SOURCE_DATE_EPOCH
COPY deploy/farcall /launcher/opt/farcall/bin/farcall
RUN chmod 755 /launcher/opt/farcall/bin/farcall && find /launcher -exec touch -d @$SOURCE_DATE_EPOCH {} +

# ---- the images ------------------------------------------------------------------------------------------------------

# Python and our user. Numbers, not names: Kubernetes checks runAsNonRoot by number. What changes seldom lies lowest in each
# image: an edit of ours makes small layers anew, and not those of the packages.
FROM ${PYTHON} AS base
ARG SOURCE_DATE_EPOCH
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/farcall/bin:$PATH
COPY --from=launcher /launcher /
RUN touch /dev/shm/before && python -m venv --without-pip /opt/farcall \
    && groupadd --gid 10001 farcall && useradd --uid 10001 --gid 10001 --no-create-home farcall \
    && find / -xdev -newer /dev/shm/before -exec touch -h -d @$SOURCE_DATE_EPOCH {} +
ENTRYPOINT ["farcall"]

# User 0: the tracing file system is open to root alone. Which capabilities it needs is in the manifests.
FROM base AS probes
ARG SOURCE_DATE_EPOCH
# Without docstrings: they are 2 MB of an agent's memory. Python's own modules come without byte code, so of all that an agent
# imports it is made here; else each start would compile it.
ENV PYTHONOPTIMIZE=2
COPY --from=packages /packages/probes /
COPY --from=wheel /rooms/farcall /
COPY --from=wheel /rooms/farcall_probes /
RUN touch /dev/shm/before \
    && python -c "import sys, farcall.commands, farcall_probes.starting, farcall_probes.agent; print(*sorted(filter(None, (getattr(m, '__file__', None) for m in sys.modules.values()))), sep='\\n')" > /dev/shm/used \
    && grep 'py$' /dev/shm/used | python -m compileall -q --invalidation-mode unchecked-hash -i - \
    && find / -xdev -newer /dev/shm/before -exec touch -h -d @$SOURCE_DATE_EPOCH {} +
CMD ["agent", "--help"]

# The store is a process of its own, beside the exporter in one pod and from one image.
FROM base AS exporter
COPY --from=packages /packages/exporter /
COPY --from=wheel /rooms/farcall /
COPY --from=wheel /rooms/farcall_exporter /
COPY --from=wheel /rooms/farcall_store /
USER 10001:10001
CMD ["exporter", "--help"]

FROM base AS console
COPY --from=packages /packages/console /
COPY --from=wheel /rooms/farcall /
COPY --from=wheel /rooms/farcall_console /
COPY --from=wheel /rooms/farcall_store /
COPY --from=wheel /rooms/farcall_templates /
USER 10001:10001
CMD ["console", "--help"]

FROM base AS operator
COPY --from=packages /packages/operator /
COPY --from=wheel /rooms/farcall /
COPY --from=wheel /rooms/farcall_operator /
COPY --from=wheel /rooms/farcall_templates /
USER 10001:10001
CMD ["render", "--help"]
