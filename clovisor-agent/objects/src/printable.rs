//! Text that a terminal or a log may show: whoever names an object writes to the operator's screen.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with an escape, as Rust writes it, in place of each character that moves the cursor, begins a line, starts a control
/// sequence, turns the direction of writing (Unicode Technical Report 36, section 2.5) or is not seen.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// The same for a text of several lines.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n')
}

fn escaped(text: &str, allowed: impl Fn(char) -> bool) -> Cow<'_, str> {
    let acts = |c: char| acts(c) && !allowed(c);
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if acts(c) {
            // Writing to a String cannot fail.
            let _ok = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Control characters (C0, DEL, C1), marks of direction and isolation, separators of lines and paragraphs, and those without width.
const fn acts(c: char) -> bool {
    c.is_ascii_control()
        || matches!(
            c,
            '\u{80}'..='\u{9f}'
                | '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown_and_not_done() {
        for (text, shown) in [
            ("s9", "s9"),
            ("Überweisung 支払い", "Überweisung 支払い"),
            ("s9\r\nNODE ok", "s9\\r\\nNODE ok"),
            ("\u{1b}[2J\u{1b}]0;root\u{7}", "\\u{1b}[2J\\u{1b}]0;root\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b\u{2066}c", "a\\u{202e}b\\u{2066}c"),
            ("s\u{200b}9\u{feff}\u{7f}\t", "s\\u{200b}9\\u{feff}\\u{7f}\\t"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable_lines("one\r\ntwo"), "one\\r\ntwo");
    }

    #[test]
    fn a_text_that_is_escaped_stays_as_it_is() {
        for c in (0..=0x0010_ffff).filter_map(char::from_u32) {
            let once = printable(c.encode_utf8(&mut [0; 4])).into_owned();
            assert_eq!(printable(&once), once);
            assert!(!once.chars().any(|c| c.is_control()), "{once:?}");
        }
    }
}
