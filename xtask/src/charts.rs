//! The Helm charts, from the same YAML that kustomize takes.
//!
//! **In**: `deploy/agent/base`. **Out**: the templates of `deploy/helm`. A test renders both and compares.

use anyhow::{Context, Result, ensure};

const HEAD: &str = "{{- /* Written by `cargo xtask gen` from deploy/agent/base; do not edit. */ -}}\n";

/// What differs between a kustomize base and a template: text there, text here.
const REPLACED: [(&str, &str); 7] = [
    ("namespace: clovisor-system", "namespace: {{ .Release.Namespace }}"),
    (
        "image: clovisor\n",
        "image: \"{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}\"\n",
    ),
    (
        "        - --envoy-dir=/var/lib/clovisor/envoy\n        - --envoy-mount=/etc/clovisor/envoy\n",
        "{{- if .Values.sidecars }}\n        - --sidecars\n{{- else }}\n        - --envoy-dir=/var/lib/clovisor/envoy\n        \
         - --envoy-mount=/etc/clovisor/envoy\n{{- end }}\n",
    ),
    (
        "        - controller\n",
        "        - controller\n{{- if .Values.sidecars }}\n        - --sidecars\n        - --manage-istio={{ .Values.manageIstio }}\n{{- end }}\n",
    ),
    ("  replicas: 2\n", "  replicas: {{ .Values.controller.replicas }}\n"),
    (
        "      nodeSelector:\n        kubernetes.io/os: linux\n",
        "      nodeSelector:\n{{ toYaml .Values.nodeSelector | indent 8 }}\n",
    ),
    // Helm makes the namespace: --create-namespace.
    ("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: clovisor-system\n---\n", ""),
];

/// Path and content of every template.
pub(crate) fn templates(crds: &str) -> Result<Vec<(String, String)>> {
    let mut files = vec![("deploy/helm/clovisor-crds/templates/crds.yaml".to_owned(), crds.to_owned())];
    let mut used = [false; REPLACED.len()];
    for name in ["rbac", "daemonset", "controller"] {
        let source = format!("deploy/agent/base/{name}.yaml");
        let mut text = std::fs::read_to_string(&source).with_context(|| format!("read {source}"))?;
        ensure!(!text.contains("{{"), "{source} has template braces");
        // The namespace's own object first: its name is replaced after that.
        for (i, (from, to)) in REPLACED.iter().enumerate().rev() {
            if let Some(used) = used.get_mut(i) {
                *used |= text.contains(from);
            }
            text = text.replace(from, to);
        }
        files.push((format!("deploy/helm/clovisor/templates/{name}.yaml"), format!("{HEAD}{text}")));
    }
    let idle = REPLACED.iter().zip(used).find(|(_, used)| !used).map(|((from, _), _)| from);
    ensure!(idle.is_none(), "no file has {idle:?} any longer; follow it in xtask/src/charts.rs");
    Ok(files)
}
