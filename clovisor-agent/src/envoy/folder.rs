//! In which order files change, so that Envoy never reads the name of something that is not there.
