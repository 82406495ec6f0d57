//! An error with its causes, in one line.
//!
//! **In**: an error. **Out**: its text and those of its sources. **Owns**: nothing. **Never**: says a cause twice.

use std::error::Error;

/// The texts of the error and of its sources, joined by colons: often only the innermost one tells what is wrong (a
/// certificate that is not trusted, a missing capability). A source that the text before quotes already is left out.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn each_cause_is_named_once() {
        let layer = |text, source: Option<Layer>| Layer { text, source: source.map(Box::new) };
        let error = layer("connect: refused", Some(layer("refused", Some(layer("port 6443", None)))));
        assert_eq!(causes(&error), "connect: refused: port 6443");
    }
}
