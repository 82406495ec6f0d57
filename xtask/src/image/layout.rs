//! An OCI image layout of one layer, as one tar archive; the same input gives the same bytes.

use super::Architecture;
use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// A file of the image.
#[derive(Debug)]
pub(super) struct File {
    /// Without the leading slash.
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
    pub(super) executable: bool,
}

/// What is in the image, and how it is named.
#[derive(Debug)]
pub(super) struct Image<'a> {
    pub(super) reference: &'a str,
    pub(super) revision: &'a str,
    pub(super) architecture: Architecture,
    pub(super) entrypoint: &'a [&'a str],
    pub(super) files: Vec<File>,
}

impl Image<'_> {
    /// Writes the archive.
    pub(super) fn write(&self, archive: &Path) -> Result<()> {
        let layer = layer(&self.files)?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&layer).context("compress the layer")?;
        let compressed = gzip.finish().context("compress the layer")?;
        let mut blobs = BTreeMap::new();
        let layer_entry = put(&mut blobs, "application/vnd.oci.image.layer.v1.tar+gzip", compressed);
        let config = self.config(&digest(&layer))?;
        let config = put(&mut blobs, "application/vnd.oci.image.config.v1+json", config);
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer_entry],
        }))?;
        let mut manifest = put(&mut blobs, "application/vnd.oci.image.manifest.v1+json", manifest);
        let tag = self.reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        manifest["platform"] = json!({ "os": "linux", "architecture": self.architecture.oci() });
        manifest["annotations"] = json!({
            "io.containerd.image.name": self.reference, "org.opencontainers.image.ref.name": tag,
        });
        let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [manifest] }))?;
        let file = std::fs::File::create(archive).with_context(|| format!("create {}", archive.display()))?;
        let mut tar = tar::Builder::new(file);
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, false)?;
        append(&mut tar, "index.json", &index, false)?;
        for (digest, bytes) in &blobs {
            append(&mut tar, &format!("blobs/sha256/{digest}"), bytes, false)?;
        }
        tar.finish().context("write the archive")
    }

    fn config(&self, layer: &str) -> Result<Vec<u8>> {
        let labels = json!({
            "org.opencontainers.image.title": "clovisor",
            "org.opencontainers.image.description": "Puts each request of a mesh on the WAN link that its route is mapped to",
            "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.image.revision": self.revision,
            "org.opencontainers.image.licenses": "Apache-2.0 AND (MIT OR GPL-2.0-only)",
        });
        let config = json!({
            "architecture": self.architecture.oci(), "os": "linux",
            "config": { "Entrypoint": self.entrypoint, "User": "0", "Labels": labels },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        });
        serde_json::to_vec(&config).context("write the configuration")
    }
}

fn layer(files: &[File]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for file in files {
        append(&mut tar, &file.path, &file.bytes, file.executable)?;
    }
    tar.into_inner().context("write the layer")
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8], executable: bool) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    tar.append_data(&mut header, path, bytes).with_context(|| format!("add {path}"))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Keeps a blob; its descriptor.
fn put(blobs: &mut BTreeMap<String, Vec<u8>>, media_type: &str, bytes: Vec<u8>) -> Value {
    let digest = digest(&bytes);
    let descriptor =
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() });
    blobs.insert(digest, bytes);
    descriptor
}
