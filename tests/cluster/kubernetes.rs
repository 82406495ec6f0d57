//! An edge whose node has an API server with our kinds and Istio's.

use anyhow::{Context, Result, ensure};
use harness::agent::NODE;
use harness::apiserver::{ApiServer, User};
use harness::site::Site;
use std::path::PathBuf;
use std::time::Duration;

/// A file of the repository.
pub(crate) fn file(path: &str) -> Result<String> {
    let path = harness::repository::path(path);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Starts the server on the edge and applies the kinds; nothing may be warned of.
pub(crate) fn start(site: &Site) -> Result<ApiServer> {
    let api = ApiServer::start(&site.edge, &site.path(""))?;
    let said = api.apply(&file("deploy/crd/clovisor.yaml")?)?;
    ensure!(!said.contains("Warning"), "{said}");
    api.apply(&file("target/tools/istio-crds.yaml")?)?;
    api.apply(&file("deploy/agent/base/rbac.yaml")?)?;
    api.apply(BINDING)?;
    let kinds = ["wanlinks.clovisor.io", "wanmappings.clovisor.io", "virtualservices.networking.istio.io"];
    for kind in kinds {
        let crd = format!("crd/{kind}");
        api.kubectl(User::Admin, &["wait", "--for=condition=Established", &crd, "--timeout=20s"], None)?;
    }
    api.kubectl(User::Admin, &["create", "namespace", "shop"], None)?;
    api.kubectl(User::Admin, &["create", "serviceaccount", "default", "-n", "shop"], None)?;
    Ok(api)
}

/// The test's agent and controller are users; on a cluster they are service accounts with the same roles.
const BINDING: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-agent}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: clovisor-agent}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: clovisor-agent}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-controller}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: clovisor-controller}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: clovisor-controller}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: test-controller, namespace: clovisor-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: clovisor-controller}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: clovisor-controller}]
";

/// The site's pods as a kubelet would report them.
pub(crate) fn report_pods(api: &ApiServer, site: &Site) -> Result<()> {
    for pod in &site.pods {
        api.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {}, namespace: shop, labels: {{app: client}}}}\n\
             spec: {{nodeName: {NODE}, containers: [{{name: app, image: none}}]}}\n",
            pod.name
        ))?;
        let [v4, v6] = pod.addresses();
        let status = format!(
            "{{\"status\":{{\"podIP\":\"{v4}\",\"podIPs\":[{{\"ip\":\"{v4}\"}},{{\"ip\":\"{v6}\"}}]}}}}"
        );
        let words =
            ["patch", "pod", &pod.name, "-n", "shop", "--subresource=status", "--type=merge", "-p", &status];
        api.kubectl(User::Admin, &words, None)?;
    }
    Ok(())
}

/// Where the agent finds the server.
pub(crate) fn agents_kubeconfig(api: &ApiServer) -> PathBuf {
    api.kubeconfig(User::Agent)
}

/// Waits until the agent's status says so.
pub(crate) fn status(site: &mut Site, what: &str, holds: impl Fn(&serde_json::Value) -> bool) -> Result<()> {
    harness::eventually::eventually(what, Duration::from_secs(40), || {
        let status = site.agent()?.json("/v1/status")?;
        ensure!(holds(&status), "{status:#}");
        Ok(())
    })
}
