//! The only door to BPF.
//!
//! **In**: the wanted [`image`](self), attachments. **Out**: attached programs, flows, counters. **Owns**: every
//! kernel map (one task writes them), the pin folder. **Never**: gRPC, Kubernetes, YAML.
