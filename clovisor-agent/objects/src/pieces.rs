//! The documents of a file.

/// A document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Lines of the file before it.
    pub offset: usize,
    pub text: &'a str,
}

/// The documents of a file that say something, each with its own `---` line where it has one. A byte order mark begins one
/// and is no part of it.
#[must_use]
pub fn split(text: &str) -> Vec<Piece<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pieces = Vec::new();
    let (mut start, mut offset, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        // Another file that was appended.
        let bare = line.strip_prefix('\u{feff}');
        if bare.is_some() {
            pieces.push(Piece { offset, text: text.get(start..at).unwrap_or_default() });
            at += '\u{feff}'.len_utf8();
            (start, offset) = (at, number);
        }
        let line = bare.unwrap_or(line);
        let (begins, ends) = (is_marker(line, "---"), is_marker(line, "..."));
        if begins || ends {
            pieces.push(Piece { offset, text: text.get(start..at).unwrap_or_default() });
            (start, offset) = if begins { (at, number) } else { (at + line.len(), number + 1) };
        }
        at += line.len();
    }
    pieces.push(Piece { offset, text: text.get(start..).unwrap_or_default() });
    pieces.retain(|piece| !piece.is_blank());
    pieces
}

/// A line that begins or ends a document, wherever it stands: also inside a text of several lines.
fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

impl Piece<'_> {
    /// Empty lines, comments, directives and marks only.
    fn is_blank(&self) -> bool {
        self.text.lines().all(|line| {
            let line = if is_marker(line, "---") { line.get(3..).unwrap_or_default() } else { line };
            line.trim().is_empty() || line.trim_start().starts_with('#') || line.starts_with('%')
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_know_where_they_begin() {
        let found = |text: &'static str| {
            split(text).iter().map(|piece| (piece.offset, piece.text)).collect::<Vec<_>>()
        };
        assert_eq!(
            found("a: 1\n---\nb: 2\n--- # three\nc: 3\n"),
            [(0, "a: 1\n"), (1, "---\nb: 2\n"), (3, "--- # three\nc: 3\n")]
        );
        assert_eq!(found("\u{feff}%YAML 1.2\r\n---\r\na: 1\r\n...\r\n"), [(1, "---\r\na: 1\r\n")]);
        assert_eq!(found("--- {a: 1}\n---\tx\n----\n"), [(0, "--- {a: 1}\n"), (1, "---\tx\n----\n")]);
        assert_eq!(
            found("a: 1\n\u{feff}b: 2\n---\n\u{feff}---\nc: 3\n"),
            [(0, "a: 1\n"), (1, "b: 2\n"), (3, "---\nc: 3\n")]
        );
        for blank in ["", "---", "---\n", "\n \n# x\n---\n--- # y\n...\n", "\u{feff}"] {
            assert_eq!(found(blank), [], "{blank:?}");
        }
    }
}
