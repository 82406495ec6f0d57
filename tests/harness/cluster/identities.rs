//! One certificate authority, one serving certificate, a key for service accounts; every client uses a token.

use super::addresses::{API, NODES};
use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Everyone who asks: name of the kubeconfig, user, groups.
const CLIENTS: [(&str, &str, &str); 4] = [
    ("admin", "admin", "system:masters"),
    ("manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "system:kube-proxy", ""),
];

/// Writes all of them into the folder.
pub(super) fn write(folder: &Path) -> Result<()> {
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {name}"))?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).context("cannot chmod")
    };
    let ca_key = KeyPair::generate().context("cannot make a key")?;
    let mut ca = CertificateParams::new(Vec::<String>::new()).context("cannot describe the authority")?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).context("cannot sign the authority")?;
    let key = KeyPair::generate().context("cannot make a key")?;
    let names =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map(str::to_owned);
    let mut server = CertificateParams::new(names.to_vec()).context("cannot describe the server")?;
    for address in [API, "127.0.0.1", "10.96.0.1"] {
        server.subject_alt_names.push(SanType::IpAddress(address.parse().context("an address")?));
    }
    let certificate = server.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).context("cannot sign")?;
    put("ca.crt", ca_certificate.pem())?;
    put("server.crt", certificate.pem())?;
    put("server.key", key.serialize_pem())?;
    let accounts = KeyPair::generate().context("cannot make a key")?;
    put("accounts.pem", accounts.serialize_pem())?;
    put("accounts.pub", accounts.public_key_pem())?;
    let mut tokens = String::new();
    let kubelets =
        NODES.map(|(name, ..)| (format!("kubelet-{name}"), format!("system:node:{name}"), "system:nodes"));
    let clients = CLIENTS.map(|(name, user, groups)| (name.to_owned(), user.to_owned(), groups));
    for (name, user, groups) in clients.into_iter().chain(kubelets) {
        let token = KeyPair::generate().context("cannot make a token")?.public_key_raw().iter().fold(
            String::new(),
            |mut text, byte| {
                // Writing to a String cannot fail.
                let _written = write!(text, "{byte:02x}");
                text
            },
        );
        let _written = writeln!(tokens, "{token},{user},{user},\"{groups}\"");
        put(&name, kubeconfig(folder, &token))?;
    }
    put("tokens.csv", tokens)
}

fn kubeconfig(folder: &Path, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: site\n\
         clusters: [{{name: site, cluster: {{server: \"https://{API}:6443\", certificate-authority: {}}}}}]\n\
         users: [{{name: user, user: {{token: {token}}}}}]\n\
         contexts: [{{name: site, context: {{cluster: site, user: user}}}}]\n",
        folder.join("ca.crt").display()
    )
}
