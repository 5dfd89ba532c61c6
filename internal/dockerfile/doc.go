// Package dockerfile reads Dockerfiles and Containerfiles as far as it matters to
// know which images a build is made from, and writes them with other images in
// those places. The format is that of Docker's reference and of buildah: parser
// directives, comments, continued lines, here documents, ARG with the values that
// FROM, COPY --from and RUN --mount see, stages by name and number.
package dockerfile
