// Package stream says what a stream is: its definition, a file with a strict
// parser; the definitions that are built in; and the versions and names of
// builds and releases. It is pure data: nothing here touches the world, and
// time comes in as a value.
//
//   - [Decode] reads a definition and reports every fault at once, each with
//     line, column, path and advice; [Faults] lists them.
//   - [Builtin] gives okd-scos-stable, okd-scos-next, okd-fcos-stable and
//     sample; [BuiltinSource] their text, to start an own one from.
//   - [Edit] changes values in the text and keeps comments and layout.
//   - [Definition.Profile] says what holds for one version,
//     [Definition.Needs] what a run must be given besides.
//   - [ParseVersion], [Version.Compare] and [Scheme.Next] read, order and
//     continue versions.
//
// # The definition
//
// A definition is one YAML document of at most [MaxDefinitionSize] bytes. Keys
// that are not below are faults, as are values of another type: texts that look
// like numbers must be quoted ("4.20" is not 4.2), true and false are the only
// booleans. Anchors and aliases work; tags, merge keys, directives and a second
// document do not. Every key but those marked "required" may be left out.
//
//	apiVersion: streams.okd.io/v1alpha1   # required
//	kind: Stream                          # required
//
//	identity:                             # required
//	  name: okd-scos-next                 # required; lower-case letters, digits, "-"; in keys and tags
//	  title: OKD/SCOS next                # for people
//	  description: Early candidates.
//	  distribution: scos                  # required; scos, fcos, sample or custom
//	  osName: scos                        # required; names files and metadata
//	  endOfLife:                          # the stream ends
//	    version: "4.15"                   # required; the last version
//	    message: Use another stream.      # required
//
//	version: "4.22"                       # required but in samples; the X.Y built now
//
//	naming:                               # how versions are written, see Schemes
//	  release: okd-scos-ec                # required; of published releases
//	  candidate: okd-scos-nightly         # of daily payloads; left out: as release
//	  build: scos-base                    # of operating-system builds
//
//	architectures: [x86_64]               # required; x86_64, aarch64, ppc64le, s390x
//
//	os:
//	  kind: layer                         # compose, layer or given; required here or in each profile
//	  source:                             # left out: given with each run
//	    git: https://example.com/os.git   # compose, layer: the configuration
//	    ref: release-${MINOR}             # its branch or tag
//	    commit: 0123…                     # pins it, 40 or 64 hexadecimal digits
//	    variant: c9s                      # compose: of coreos-assembler
//	    image: quay.io/a/b@sha256:…       # layer: the base; given: the OS; by digest
//	    follow: quay.io/a/b:latest        # layer: each build pins what it finds at this tag
//	    tar: tree.tar.gz                  # given: a root filesystem; also gzip, xz, zstd
//	    sha256: 0123…                     # required with tar
//	    dir: /srv/tree                    # given: a root filesystem
//	    ostree:                           # given: a commit
//	      repository: /srv/repo           # required
//	      ref: okd/x86_64/next            # ref or commit; with both
//	      commit: 0123…                   # the ref has to be at it
//	  builder:                            # compose, layer
//	    image: quay.io/a/b@sha256:…       # by digest
//	    cpus: 2
//	    memory: 16Gi                      # sizes: whole numbers with Ki Mi Gi Ti k M G T
//	    storage: 40Gi                     # the workspace
//	    kvm: true                         # needs /dev/kvm
//	    timeout: 90m                      # durations: s m h d w
//	  repositories:                       # compose, layer: where packages come from
//	    - name: ose                       # required
//	      baseURL: https://example.com/${MINOR} # required
//	      gpgKey: https://example.com/key
//	      include: [openshift-*]
//	      exclude: [kernel-rt*]
//	      credentials:                    # here and below: names of secrets, never values
//	        secret: ose-mirror-secret     # a Kubernetes Secret
//	        keys: {username: user, password: pass}      # role: key in it
//	        env: {username: OSE_USER, password: OSE_PASS} # role: environment variable
//	                                      # roles: username, password, token, key, file, url
//	  containerfile: Containerfile        # layer: path in the source
//	  buildArgs: {OPENSHIFT_CI: "1"}      # layer
//	  manager: rpm-ostree                 # layer, instead of containerfile: also dnf, apt
//	  packages: [openshift-kubelet, cri-o] # layer, instead of containerfile
//
//	profiles:                             # what differs by version; ascending, no overlap
//	  - from: "4.16"                      # required
//	    to: "4.19"                        # inclusive; left out: and later
//	    kind: compose                     # these keys stand above those of the definition at large:
//	    ref: release-${MINOR}             # os.source.ref
//	    variant: okd-c9s                  # os.source.variant
//	    build: scos-build                 # naming.build
//	    nodeImage: centos-stream-coreos-9 # registry.node.name
//	    extensionsImage: some-extensions  # registry.extensions.name
//	    nodeTags: [stream-coreos]         # payload.nodeTags
//	    extensionsTags: [stream-coreos-extensions] # payload.extensionsTags
//	    extensionsRequired: true          # extensions.required
//
//	artifacts:                            # boot images to make or hand in
//	  - platform: qemu                    # required; as in stream metadata, own ones start with "x-"
//	    format: qcow2                     # required
//	    required: true                    # a build without it is refused
//	    architectures: [x86_64]           # left out: all
//
//	extensions:
//	  required: true                      # a release without it stops before assembly
//	  image: quay.io/a/b@sha256:…         # where it is handed in
//	  sets:                               # layer, instead of image: what nodes may install
//	    - name: kernel-devel              # required
//	      packages: [kernel-devel]        # required
//	      architectures: [x86_64]         # left out: all
//	      matchVersion: kernel            # packages of that one's version
//
//	gates:                                # checks before announcement, in this order
//	  - name: kola                        # required
//	    kind: kola                        # required; lint, payload, regression, kola, install, upgrade, upgrade-minor, external
//	    mode: informing                   # blocking or informing; left out: blocking
//	    job: some-job                     # the outside job that gives the result
//	    timeout: 4h
//	    retries: 2                        # at most 10
//
//	store:                                # files: catalogue, disks, metadata
//	  url: s3://bucket/prefix             # or dir:PATH
//	  prefix: ${STREAM}                   # of all keys
//	  endpoint: https://s3.example.com    # left out: Amazon's
//	  region: us-east-1
//	  pathStyle: true
//	  acl: public-read
//	  publicURL: https://example.com      # where readers find url
//	  credentials: …
//
//	registry:                             # images
//	  repository: quay.io/okd             # or dir:PATH; what the names below are in
//	  node: {name: stream-coreos, tags: ["${BUILD}-${ARCH}"]}
//	  extensions: {name: stream-coreos-extensions, tags: ["${BUILD}-${ARCH}"]}
//	  release: {name: scos-release, tags: ["${VERSION}"]}
//	  content: scos-content               # all component images, by digest
//	  credentials: …
//
//	imports:                              # OpenShift image streams that follow
//	  - image: node                       # required; node, extensions or release
//	    namespace: origin                 # required
//	    imageStream: scos-${MINOR}        # required
//	    tag: stream-coreos                # required
//
//	payload:
//	  base: quay.io/okd/scos-release@sha256:… # the release to start from, by digest
//	  pick:                               # or where daily runs find it
//	    controller: https://example.com   # required
//	    stream: ${MINOR}.0-0.okd-scos-nightly # required
//	  overrides:
//	    - {name: console, image: "quay.io/a/b@sha256:…"} # both required
//	  exclude: [machine-os-content]       # dropped from the base
//	  nodeTags: [stream-coreos]           # component names; the first is the node image's own, others are copies
//	  extensionsTags: [stream-coreos-extensions]
//
//	cadences:
//	  daily:
//	    schedule: "30 10 * * *"           # cron, UTC
//	    staleAfter: 48h                   # without success, to be reported
//	    timeout: 4h
//	  promotion:
//	    schedule: "0 5 * * 1"
//	    minInterval: 21d                  # since the last: a sprint
//
//	graph:
//	  channels: [next-scos, "next-scos-${MINOR}"]
//	  edges: tested                       # tested, previous or tested-or-previous; left out: tested
//	  patches: 0                          # previous patch releases with an edge; 0: all
//	  minors: 1                           # previous minors with edges
//	  server: https://example.com/graph
//
//	github:
//	  repository: okd-project/okd         # required
//	  latest: true                        # or prerelease: true
//	  assets: {include: ["*.tar.gz"], exclude: ["*-s390x*"]}
//	  credentials: …
//
//	trust:
//	  keys:
//	    - id: maintainers@okd.io          # required; hexadecimal key id or fingerprint, or mail address
//	      source: https://example.com/key.asc
//	      signs: true                     # this stream signs with it
//	      credentials: …                  # required with signs
//	  signatureStores: [https://example.com/signatures]
//
//	retention:                            # without a rule nothing is deleted
//	  builds: {count: 5, age: 90d}        # the newest 5 and all younger than 90 days stay
//	  artifacts: {age: 30d}
//	  images: {count: 5}
//	  releases: {count: 100}
//	  pins: [released, barrier, in-use, annotated] # stay whatever the rules say
//
//	notifications:
//	  - kind: matrix                      # required; matrix, slack, mail or webhook
//	    url: https://matrix.org
//	    target: "#room:example.org"       # room, channel or address
//	    on: [failure, promotion, stale]   # and success
//	    credentials: …
//
// Templates know ${VERSION} (the release), ${MINOR} (X.Y), ${ARCH} (RPM
// spelling), ${STREAM} (the name) and ${BUILD} (the operating-system build),
// and nothing else: see [Template].
//
// A stream of distribution sample is published only to folders and loopback
// addresses; another target is a fault.
//
// # Versions
//
// [Schemes] lists the ways to write versions. [Version.Compare] orders them as
// OKD means them; [CompareSemver] as semantic versions, which cluster-version
// operator, oc and Cincinnati use and by which an early candidate
// (4.17.0-okd-scos.ec.4) is newer than the release it was a candidate for
// (4.17.0-okd-scos.0).
package stream
