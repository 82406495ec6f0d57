//! An error with its causes, in one line.
//!
//! **In**: an error. **Out**: its text and those of its sources. **Owns**: nothing. **Never**: says a cause twice.

use std::error::Error;

/// The texts of the error and of its sources, joined by colons: often only the innermost one tells what is wrong (a
/// certificate that is not trusted, a missing capability). A source that the text before quotes already is left out, and so
/// is the Debug form of a source in brackets, which some libraries add.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let debug = format!(" ({cause:?})");
        texts.iter_mut().for_each(|text| *text = text.replace(&debug, ""));
        texts.push(cause.to_string());
        source = cause.source();
    }
    let mut text = String::new();
    for words in texts {
        if text.is_empty() {
            text = words;
        } else if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
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

    #[derive(Debug, thiserror::Error)]
    #[error("forbidden")]
    struct Refusal {
        code: u16,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("ApiError: {0} ({0:?})")]
    struct WithDebug(#[source] Box<Refusal>);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot list: {0}; try again")]
    struct Outer(#[source] WithDebug);

    #[test]
    fn what_is_printed_for_programmers_is_left_out() {
        let error = Outer(WithDebug(Box::new(Refusal { code: 403 })));
        assert!(error.to_string().contains("Refusal"), "{error}");
        assert_eq!(causes(&error), "cannot list: ApiError: forbidden; try again");
        assert_eq!(error.0.0.code, 403);
    }
}
