//! Certificates of the mesh: one authority, one identity for the pods, one for the cloud's gateway.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

/// Writes `cert-chain.pem`, `key.pem` and `root-cert.pem` (the names Istio uses) into each folder, for
/// the SPIFFE identity beside it; the keys are readable by `owner` alone.
pub fn write(identities: &[(&Path, &str)], owner: u32) -> Result<()> {
    let key = KeyPair::generate().context("cannot make a key")?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::OrganizationName, "cluster.local");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = params.self_signed(&key).context("cannot sign the root")?;
    let issuer = Issuer::new(params, key);
    for (folder, spiffe) in identities {
        let (chain, key) = leaf(spiffe, &issuer)?;
        std::fs::create_dir_all(folder).context("cannot make a folder for certificates")?;
        for (name, text) in [("cert-chain.pem", &chain), ("key.pem", &key), ("root-cert.pem", &root.pem())] {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let secret = folder.join("key.pem");
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o400)).context("cannot chmod")?;
        chown(&secret, Some(owner), Some(owner)).context("cannot chown")?;
    }
    Ok(())
}

fn leaf(spiffe: &str, issuer: &Issuer<'_, KeyPair>) -> Result<(String, String)> {
    let key = KeyPair::generate().context("cannot make a key")?;
    let mut params = CertificateParams::default();
    let uri = spiffe.try_into().context("a SPIFFE identity is ASCII")?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, issuer).context("cannot sign")?;
    Ok((certificate.pem(), key.serialize_pem()))
}
