#!/bin/bash
# Makes the cgroups of a node below the caller's own, moves into them and becomes the node.
# usage: enter.sh NAME ADDRESS POD_CIDR; the rest is in the environment (see inside.sh)
set -e
mine=$(cat /proc/self/cgroup) # all of it before the first move: the file changes under its reader
while IFS=: read -r _ controllers path; do
  case $controllers in
    "") base=/sys/fs/cgroup/unified ;;
    name=*) base=/sys/fs/cgroup/${controllers#name=} ;;
    *) base=/sys/fs/cgroup/$controllers ;;
  esac
  [ -d "$base" ] || continue
  group=$base${path%/}/$PREFIX$1
  mkdir -p "$group"
  # A new v1 cpuset is empty and takes no process.
  if [ "$controllers" = cpuset ]; then
    cat "$base$path/cpuset.cpus" >"$group/cpuset.cpus"
    cat "$base$path/cpuset.mems" >"$group/cpuset.mems"
  fi
  echo $$ >"$group/cgroup.procs"
  echo "$group" >>"$SITE/cgroups"
done <<<"$mine"
# Not `ip netns exec`: that mounts a new /sys, without cgroups and bpffs.
exec nsenter --net="/run/netns/$NETNS" unshare --pid --fork --kill-child --mount --uts --ipc --cgroup \
  "$(dirname "$0")/inside.sh" "$@"
