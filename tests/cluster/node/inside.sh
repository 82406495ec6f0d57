#!/bin/bash
# The inside of a node, PID 1 of its own namespaces: containerd, kubelet, kube-proxy.
# usage: inside.sh NAME ADDRESS POD_CIDR
# SITE: folder of the site; KUBE: the binary of Kubernetes; IMAGES: archives to import; PROXY_MODE: nftables|iptables
NAME=$1 ADDRESS=$2 POD_CIDR=$3 D=$SITE/node-$1
mkdir -p "$D"/{lib,log,cni,sysctl}
hostname "$NAME"
mount --make-rshared / # the kubelet wants shared propagation; the outside is cut off by unshare
mount -t proc proc /proc
# The kubelet sets these; they are not namespaced, so it gets files that say what it wants already.
i=0
for kv in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  f=$D/sysctl/$((i++))
  echo "${kv#*=}" >"$f"
  mount --bind "$f" "/proc/sys/${kv%=*}"
done
# A fresh sysfs shows this namespace's devices; cgroups and bpffs on it are the node's own.
mount -t sysfs sysfs /sys
mount -t bpf -o mode=700 bpf /sys/fs/bpf # as systemd mounts it
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
for c in cpu cpuacct cpuset memory devices freezer blkio pids; do
  mkdir /sys/fs/cgroup/$c
  mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c
done
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o name=systemd cgroup /sys/fs/cgroup/systemd
mount -t tmpfs -o mode=755 run /run
mount --bind "$D/lib" /var/lib
mount --bind "$D/log" /var/log
cat >"$D/cni/10-bridge.conflist" <<C
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
 {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam", "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
C
cat >"$D/containerd.toml" <<C
version = 2
oom_score = 0
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$D/cni"
C
cat >"$D/kubelet.yaml" <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
address: $ADDRESS
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
clusterDomain: cluster.local
resolvConf: $D/resolv.conf
enforceNodeAllocatable: [pods]
evictionHard: {memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%", imagefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 2s
syncFrequency: 5s
failSwapOn: false
volumePluginDir: /var/lib/kubelet/volumeplugins
registerNode: true
kubeAPIQPS: 500
kubeAPIBurst: 500
C
echo "nameserver 127.0.0.1" >"$D/resolv.conf"
containerd -c "$D/containerd.toml" >"$SITE/logs/containerd-$NAME.log" 2>&1 &
for _ in $(seq 200); do
  [ -S /run/containerd/containerd.sock ] && ctr version >/dev/null 2>&1 && break
  sleep 0.05
done
# By name: an archive for other machines may lie beside them.
for archive in clovisor pause proxy; do
  ctr -n k8s.io images import "$IMAGES/$archive.tar" || exit 1
done
"$KUBE" kubelet --config "$D/kubelet.yaml" --kubeconfig "$SITE/kubernetes/kubelet-$NAME" --hostname-override "$NAME" \
  --node-ip "$ADDRESS" --v 2 >"$SITE/logs/kubelet-$NAME.log" 2>&1 &
"$KUBE" kube-proxy --kubeconfig "$SITE/kubernetes/kube-proxy" --proxy-mode "$PROXY_MODE" --hostname-override "$NAME" \
  --cluster-cidr 10.244.0.0/16 --conntrack-max-per-core 0 --v 2 >"$SITE/logs/kube-proxy-$NAME.log" 2>&1 &
wait
