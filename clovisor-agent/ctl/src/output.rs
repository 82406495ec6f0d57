//! Output formats, and what the terminal can show.

use super::cli::{Color, Output};
use super::outcome::{Code, CtlError};
use super::show::Style;
use serde::Serialize;
use std::io::IsTerminal as _;

/// A document in the format that was asked for.
pub(super) fn format<T: Serialize>(
    output: Output,
    document: &T,
    table: impl FnOnce() -> String,
) -> Result<String, CtlError> {
    match output {
        Output::Table | Output::Wide => Ok(table()),
        Output::Json => {
            let text = serde_json::to_string_pretty(document).map_err(|e| unprintable(&e))?;
            Ok(format!("{text}\n"))
        }
        Output::Yaml => yaml(document),
    }
}

/// A document as YAML, with a newline at its end.
pub(super) fn yaml(document: &impl Serialize) -> Result<String, CtlError> {
    let text = serde_saphyr::to_string(document).map_err(|e| unprintable(&e))?;
    Ok(if text.ends_with('\n') { text } else { format!("{text}\n") })
}

/// A document that no format can express.
pub(super) fn unprintable(error: &dyn std::error::Error) -> CtlError {
    CtlError { code: Code::Failed, message: format!("cannot print: {error}"), fix: None }
}

/// Colours and characters that the terminal can show.
pub(super) fn style(color: Color) -> Style {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let terminal = std::io::stdout().is_terminal() && !std::env::var("TERM").is_ok_and(|term| term == "dumb");
    let color = match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => terminal && !set("NO_COLOR"),
    };
    let utf8 = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let unicode = utf8.is_some_and(|locale| locale.to_ascii_lowercase().replace('-', "").contains("utf8"));
    Style { color, unicode }
}
