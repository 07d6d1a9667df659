# The `fairlead` program in an image: not root, works on a read-only root file system, writes only to its volumes.
# Build:  docker build -t fairlead .

FROM docker.io/library/rust:1.95.0-slim-trixie AS build
RUN apt-get update && apt-get install --yes --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN cargo build --locked --release --bin fairlead

FROM docker.io/library/debian:trixie-slim
# Volumes take owner and mode of these folders when they are first mounted.
RUN groupadd --gid 10001 fairlead \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/fairlead --shell /usr/sbin/nologin fairlead \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/fairlead /authority \
        /tokens /tokens/guangzhou /tokens/hong-kong /tokens/macao
COPY --from=build /source/target/release/fairlead /usr/local/bin/fairlead
USER 10001:10001
# Where the command line finds the connector's socket; the settings put everything it writes there, too.
ENV FAIRLEAD_DATA=/var/lib/fairlead FAIRLEAD__DATA=/var/lib/fairlead
EXPOSE 7443
# Fails where no connector answers on its socket.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["fairlead", "status"]
ENTRYPOINT ["fairlead"]
CMD ["run", "--config", "/etc/fairlead/settings.toml"]
