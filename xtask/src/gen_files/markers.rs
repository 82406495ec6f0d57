//! Parts of documents that are written by the machine, between two comments.

use anyhow::{Context, Result};

/// The document with a part written anew.
pub(super) fn filled(text: &str, part: &str, content: &str) -> Result<String> {
    let (before, after) = split(text, part)?;
    Ok(format!("{before}{}\n{content}{}{after}", begin(part), end(part)))
}

/// What stands before the part, and after it.
fn split<'a>(text: &'a str, part: &str) -> Result<(&'a str, &'a str)> {
    let (begin, end) = (begin(part), end(part));
    let (before, rest) = text.split_once(&begin).with_context(|| format!("no line {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no line {end}"))?;
    Ok((before, after))
}

fn begin(part: &str) -> String {
    format!("<!-- {part}: written by cargo xtask gen -->")
}

fn end(part: &str) -> String {
    format!("<!-- /{part} -->")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_is_written() -> Result<()> {
        let text = "a\n<!-- t: written by cargo xtask gen -->\nold\n<!-- /t -->\nb\n";
        assert_eq!(filled(text, "t", "new\n")?, text.replace("old", "new"));
        assert!(filled(text, "u", "new\n").is_err());
        Ok(())
    }
}
