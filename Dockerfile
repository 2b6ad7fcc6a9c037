# The one image of controller, node plugin and server: JavaScript built from the sources, the production dependencies, Node.
# No compiler and no install scripts of packages: the one native dependency comes prebuilt.
FROM node:24-slim AS build
WORKDIR /union-csi
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts scripts
COPY fuse fuse
COPY src src
COPY deploy deploy
RUN node scripts/build.mjs && npm prune --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:24-slim
# For block volumes.
RUN test -x /sbin/mkfs.ext4 || { apt-get update && apt-get install --yes --no-install-recommends e2fsprogs && rm -rf /var/lib/apt/lists/*; }
WORKDIR /union-csi
COPY package.json LICENSE ./
COPY bin bin
COPY --from=build /union-csi/node_modules node_modules
COPY --from=build /union-csi/dist dist
# Server pods call the program by its name.
ENV PATH=/union-csi/bin:$PATH
# Root: the node plugin mounts, the server acts as each file's caller.
ENTRYPOINT ["union-csi"]
CMD ["help"]
